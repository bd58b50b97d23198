"""Dead letters as tests see them: the command, the table, the queues they came from."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import aio_pika
import httpx

from deploy.local.services import make_cli_environment
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.service_processes import ROOT, ServiceProcesses
from tests.support.stack import Stack
from tracking.contracts import topology
from tracking.infra import rabbitmq

POISON = "alter table read.tracking_events_read_model add constraint no_poison check (event_name <> 'poison')"
CURE = "alter table read.tracking_events_read_model drop constraint no_poison"


async def volcanion(stack: Stack, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command as a process of its own, in the role it has."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRACKING_")}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.cli", "dead-letters", *words],
        env=inherited | make_cli_environment(stack) | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=ROOT,
    )


async def listed(stack: Stack, *words: str) -> list[dict[str, Any]]:
    """Return the JSON of `dead-letters list`."""
    answer = await volcanion(stack, "list", "--json", *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    items: list[dict[str, Any]] = json.loads(answer.stdout)["items"]
    return items


async def done(stack: Stack, *words: str) -> str:
    """Run a command that must succeed, and return its output."""
    answer = await volcanion(stack, *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout


async def reach_states(stack: Stack, *expected: tuple[str, int]) -> None:
    """Wait until the dead letters, the first seen first, have that state and were given up so often."""
    owner = await stack.write()

    async def states() -> list[tuple[str, int]]:
        rows = await owner.fetch("select state, times from write.dead_letters order by id")
        return [(row["state"], row["times"]) for row in rows]

    await until(states, lambda found: found == list(expected))


async def publish(stack: Stack, *bodies: bytes, queue: str = "tracking.projector", **properties: Any) -> None:
    """As somebody who should not: into a queue directly."""
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body, **properties), queue, timeout=PATIENCE_S)


async def depths(stack: Stack) -> list[int]:
    """Of the four queues."""
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        names = [topology.get_queue_names(consumer) for consumer in topology.CONSUMERS]
        return [
            await rabbitmq.get_queue_depth(channel, queue, PATIENCE_S)
            for name in names
            for queue in (name.work, name.dead_letter)
        ]


async def purge(stack: Stack, queue: str) -> None:
    """Empty a queue, as an operator might by mistake."""
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        await (await channel.get_queue(queue)).purge()


async def metric(services: ServiceProcesses, service: str, name: str) -> float:
    """Of the line that begins with `name`, labels and all; 0 if there is none yet."""
    async with http_client() as client:
        lines = (await client.get(f"{services.url(service)}/metrics")).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def ready(services: ServiceProcesses, name: str) -> tuple[int, str]:
    """Status and body; 0 while it does not listen yet."""
    async with http_client() as client:
        try:
            response = await client.get(f"{services.url(name)}/health/ready")
        except httpx.TransportError as error:
            return 0, str(error)
    return response.status_code, response.text
