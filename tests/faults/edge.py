"""Caddy in front of two gateways, configured as in production, but with the gateways' addresses and without TLS.

The Caddy on the path is taken, else Debian's package is unpacked into a temporary folder: nothing is installed for it.
With Docker, names come and go with the containers (deploy/compose/Caddyfile); here health checks say whom to choose.
"""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.backing_services import free_port
from tests.support.polling import until

HEALTH_INTERVAL_S = 0.2
"""As the edge of docker-compose looks up its gateways (`refresh`); the drain delay of a gateway has to be longer."""
_CONFIGURATION = """
{{
	admin off
	auto_https off
}}

http://127.0.0.1:{port} {{
	reverse_proxy {gateways} {{
		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 100ms
		health_uri /health/ready
		health_interval {interval_ms}ms
		health_timeout 1s
		transport http {{
			dial_timeout 500ms
			response_header_timeout 30s
			keepalive 60s
			keepalive_idle_conns_per_host 128
			compression off
		}}
	}}
}}
"""


@asynccontextmanager
async def edge(gateways: Sequence[str]) -> AsyncIterator[str]:
    """The address of an edge before these gateways (`http://host:port` each)."""
    with tempfile.TemporaryDirectory(prefix="tracking-edge-") as folder:
        program, port = _program(Path(folder)), free_port()
        addresses = " ".join(url.removeprefix("http://") for url in gateways)
        configuration = Path(folder) / "Caddyfile"
        text = _CONFIGURATION.format(port=port, gateways=addresses, interval_ms=int(1000 * HEALTH_INTERVAL_S))
        configuration.write_text(text)
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        command = [*guard, program, "run", "--config", str(configuration), "--adapter", "caddyfile"]
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, env={"HOME": folder, "PATH": "/usr/bin"}, stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
        try:
            url = f"http://127.0.0.1:{port}"
            await until(lambda: _status(url), lambda status: status == 200)
            yield url
        finally:
            process.kill()
            await process.wait()


async def _status(url: str) -> int:
    async with httpx.AsyncClient(timeout=2) as client:
        with contextlib.suppress(httpx.TransportError):
            return (await client.get(f"{url}/health/ready")).status_code
    return 0


def version() -> str:
    """Of the Caddy that is used."""
    with tempfile.TemporaryDirectory(prefix="tracking-edge-") as folder:
        said = subprocess.run([_program(Path(folder)), "version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[0]


def _program(folder: Path) -> str:
    installed = shutil.which("caddy")
    if installed is not None:
        return installed
    fetch = "apt-get download -qq caddy || { apt-get update -qq && apt-get download -qq caddy; }"
    result = subprocess.run(
        ["sh", "-c", f"({fetch}) && dpkg-deb -x caddy_*.deb ."], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, f"no caddy here, and Debian's cannot be fetched: {result.stderr[-500:]}"
    return str(folder / "usr/bin/caddy")
