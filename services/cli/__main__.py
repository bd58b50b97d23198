"""`python -m services.cli <command>`: opens the resources of a command, runs it, exits with its status."""

import logging
import sys
from contextlib import AsyncExitStack

from services.cli import SERVICE
from services.cli.commands import Command, parse_arguments
from services.cli.dead_letters.commands import DEAD_LETTERS
from services.cli.rebuild.command import REBUILD_READ_MODEL
from services.cli.settings import CliSettings
from tracking.infra import postgres, process

# The exit status that shells use for SIGINT: 128 plus the number of the signal.
_INTERRUPTED = 130
COMMANDS: tuple[Command, ...] = (*DEAD_LETTERS, REBUILD_READ_MODEL)


async def main() -> None:
    """Parse the command, run it with databases that are opened at their first use, and close them in reverse order."""
    command, arguments = parse_arguments(COMMANDS, sys.argv[1:])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = CliSettings()
    async with AsyncExitStack() as resources:
        pools = []
        for url in (settings.write_database_url, settings.read_database_url):
            pool = await postgres.open_pool(
                url.get_secret_value(),
                service=SERVICE,
                connect_timeout_s=settings.connect_timeout_s,
                query_timeout_s=command.statement_timeout_s,
                size=4,
            )
            resources.push_async_callback(postgres.close_pool, pool)
            pools.append(pool)
        write, read = pools
        status = await command.run(arguments, write, read)
    sys.exit(status)


def run() -> None:
    """Entry point of the console script `volcanion`."""
    try:
        process.run(main)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    run()
