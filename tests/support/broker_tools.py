"""RabbitMQ's command line tool against a private broker."""

import subprocess
from pathlib import Path

from deploy.local.rabbitmq import RabbitMQ

# it starts an Erlang node of its own, which takes a second, and ten where other processes keep all cores busy
_RABBITMQCTL_S = 180


def run_rabbitmqctl(server: RabbitMQ, *arguments: str) -> None:
    """Run `rabbitmqctl`; raises subprocess.CalledProcessError."""
    [tool] = Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmqctl")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | server.environment()
    command = [str(tool), "-n", environment["RABBITMQ_NODENAME"], *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=_RABBITMQCTL_S, cwd="/")
