"""The commands of the local stack, which start or stop everything in order and print a line about each step."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial

from deploy.local import LocalStackError, debian_packages, demo_partner, orphans
from deploy.local.layout import HOME, ROOT, Layout, port_variable
from deploy.local.programs import Program, Servers, link_postgres_folder, server_programs, service_programs
from deploy.local.server import LOOPBACK, is_port_free, wait_until
from deploy.local.services import make_cli_environment
from deploy.local.supervisor import Supervisor

READY_TIMEOUT_S = 90
LOG_LINES = 25


def say(line: str) -> None:
    """At once, also when the output goes into a file."""
    print(line, flush=True)


def up() -> dict[str, str]:
    """Bring everything up and wait until it is healthy; return what stands in credentials.env."""
    debian_packages.ensure(say)
    layout = Layout.load(os.environ)
    layout.save()
    supervisor = Supervisor(layout)
    link_postgres_folder(say)
    servers = Servers.of(layout)
    if not supervisor.answers():
        orphans.end(say)
        layout.socket.unlink(missing_ok=True)
    for server in servers.in_order():
        server.prepare()
    before, after = server_programs(servers), service_programs(layout, servers)
    _configure(supervisor, [*before, *after], [program.name for program in before])
    _start(layout, supervisor, before[:1])
    _start(layout, supervisor, before[1:])
    _migrate(servers)
    _start(layout, supervisor, after)
    return demo_partner.ensure(layout, say)


def down() -> None:
    """Stop everything; data stays."""
    stopped = _end_all()
    say("everything is stopped; the data stays in .local" if stopped else "nothing is running")


def scale(service: str, count: str) -> None:
    """Run so many processes of a service, from now on and after the next `up`."""
    layout = Layout.load()
    layout.scale(service, count)
    supervisor = Supervisor(layout)
    if not supervisor.answers():
        layout.save()
        say(f"{service} will have {count} processes when the system is up: make up")
        return
    servers = Servers.of(layout)
    before, after = server_programs(servers), service_programs(layout, servers)
    _check_ports(supervisor, after)
    layout.save()
    _configure(supervisor, [*before, *after], [program.name for program in before])
    processes = supervisor.processes()
    meant = [item for item in after if item.port_name == service or not processes[item.name].is_up]
    _start(layout, supervisor, meant)


def clean() -> None:
    """Stop everything and remove its data."""
    if not HOME.exists():
        say("there is no .local")
        return
    outside = (HOME / "postgres").resolve() if (HOME / "postgres").is_symlink() else None
    say(f"removing .local{f' and {outside}' if outside else ''}: all events, partners and keys of the local system")
    _end_all()
    if outside:
        shutil.rmtree(outside, ignore_errors=True)
    shutil.rmtree(HOME)


def logs(service: str | None, lines: int, *, follow: bool) -> None:
    """Become `tail` on one program's log or on all of them."""
    files = sorted((HOME / "logs").glob("*.log"))
    if service:
        files = [file for file in files if file.stem == service or file.stem.startswith(f"{service}-")]
    if not files:
        have = ", ".join(sorted(file.stem for file in (HOME / "logs").glob("*.log"))) or "none yet"
        raise LocalStackError(f"there is no log of {service or 'anything'}; there are: {have}")
    options = [f"--lines={lines}", *(["--follow=name", "--retry"] if follow else [])]
    os.execvp("tail", ["tail", *options, *(os.path.relpath(file) for file in files)])  # noqa: S606


def operate(words: Sequence[str]) -> None:
    """Become `python -m services.cli` in the role it has in this checkout's databases."""
    layout = Layout.load()
    if "role_operate" not in layout.secrets:
        raise LocalStackError("there is no local system that knows this command: make up")
    environment = make_cli_environment(Servers.of(layout))
    os.execve(sys.executable, [sys.executable, "-m", "services.cli", *words], os.environ | environment)  # noqa: S606


def _end_all() -> bool:
    """Services first, then servers, then supervisor; False when there was none to ask."""
    supervisor = Supervisor(Layout.load())
    if not supervisor.answers():
        orphans.end(say)
        return False
    _stop(supervisor, list(supervisor.processes()))
    supervisor.shut_down()
    return True


def _configure(supervisor: Supervisor, programs: Sequence[Program], servers: Iterable[str]) -> None:
    """Write the configuration; in a running supervisor stop what changed, and the services if a server did."""
    supervisor.configure(programs)
    if not supervisor.answers():
        for program in programs:
            _check_port(program)
        supervisor.launch()
        return
    added, changed, removed = supervisor.changes()
    if set(servers) & {*changed, *removed}:
        _stop(supervisor, list(supervisor.processes()))
    elif changed or removed:
        _stop(supervisor, [*changed, *removed])
    supervisor.apply(added, changed, removed)


def _stop(supervisor: Supervisor, names: Sequence[str]) -> None:
    """Those that take requests, then those that work on what they took, then servers, then what servers need."""
    stages = [{"gateway", "admin", "query"}, {"relay", "projector", "statistics"}, {"rabbitmq", "redis", "postgres"}]
    for stage in stages:
        members = [name for name in names if name.partition("-")[0] in stage]
        supervisor.stop(members, lambda name, seconds: say(f"{name:<12} stopped ({seconds:.1f} s)"))
    supervisor.stop(names, lambda name, seconds: say(f"{name:<12} stopped ({seconds:.1f} s)"))


def _start(layout: Layout, supervisor: Supervisor, programs: Sequence[Program]) -> None:
    """Start at the same time what does not run, then wait for each; LocalStackError with its log if one fails."""
    _check_ports(supervisor, programs)
    processes = supervisor.processes()
    began = time.monotonic()
    for program in programs:
        if not processes[program.name].is_up:
            supervisor.start(program.name)
    for program in programs:
        may_come_up = partial(_may_come_up, supervisor, program.name)
        try:
            wait_until(program.ping, timeout_s=READY_TIMEOUT_S, alive=may_come_up)
        except LocalStackError as error:
            raise LocalStackError(f"{program.name}: {error}\n{_end_of_log(layout, program.name)}") from error
        seconds = time.monotonic() - began
        say(f"{program.name:<12} ready on {LOOPBACK}:{program.port} ({seconds:.1f} s)")


def _may_come_up(supervisor: Supervisor, name: str) -> bool:
    return supervisor.processes()[name].state in ("STARTING", "RUNNING", "BACKOFF")


def _check_ports(supervisor: Supervisor, programs: Iterable[Program]) -> None:
    """Of what does not run yet."""
    processes = supervisor.processes()
    for program in programs:
        if program.name not in processes or not processes[program.name].is_up:
            _check_port(program)


def _check_port(program: Program) -> None:
    if not is_port_free(program.port):
        raise LocalStackError(
            f"port {program.port}, meant for {program.name}, is taken by a process that is not ours; end that "
            f"process, or choose another port with {port_variable(program.port_name)}=…"
        )


def _migrate(servers: Servers) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tracking.migrations"],
        env={"PATH": os.environ["PATH"]} | servers.migration_environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip
    if result.returncode != 0:
        raise LocalStackError(f"the migrations failed:\n{result.stdout[-4000:]}")
    for line in result.stdout.splitlines():
        say(f"migrations   {line}")


def _end_of_log(layout: Layout, name: str) -> str:
    file = layout.log(name)
    lines = file.read_text(errors="replace").splitlines()[-LOG_LINES:] if file.exists() else []
    return "\n".join([f"the last lines of {file}:", *(f"  {line}" for line in lines)])
