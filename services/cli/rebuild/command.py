"""The command `rebuild read-model [--from T] [--to T]`, with its arguments and output."""

import argparse
import asyncio
import sys
from datetime import datetime

from services.cli.commands import Command
from services.cli.rebuild.batches import RebuildStuck, UnknownSystem
from services.cli.rebuild.report import ProgressLine, format_json, format_summary
from services.cli.rebuild.run import RebuildNotStarted, rebuild
from services.cli.rebuild.state import ReceivedRange
from tracking.domain.timestamps import parse_timestamp
from tracking.infra import postgres
from tracking.infra.postgres import Pool

_DONE, _INCOMPLETE, _NOT_STARTED, _INTERRUPTED = 0, 1, 2, 3


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rebuild read-model`."""
    parser.description = (
        "Compare the read model and its counts with the write database and repair what differs, while events go on "
        "coming in. Interrupted, the same command goes on where it was. Exit status: 0 all is rebuilt, 1 some could "
        "not be, 2 refused, 3 a database went away."
    )
    parser.add_argument("--from", dest="from_time", type=_time, metavar="TIME", help="received at or after (ISO 8601)")
    parser.add_argument("--to", dest="to_time", type=_time, metavar="TIME", help="received before; default: now")
    parser.add_argument(
        "--delete-strays", action="store_true", help="also delete rows the write database does not have"
    )
    parser.add_argument("--restart", action="store_true", help="begin again, not where the last one was interrupted")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted one, whatever its range")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")


def _time(text: str) -> datetime:
    parsed = parse_timestamp(text)
    if parsed is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 time such as 2026-11-01T00:00:00Z")
    return parsed


async def _run(arguments: argparse.Namespace, write: Pool, read: Pool) -> int:
    """Run the rebuild, and return the exit status."""
    progress = ProgressLine(sys.stderr)
    within = None if arguments.resume else ReceivedRange(arguments.from_time, arguments.to_time)
    try:
        done = await rebuild(
            write,
            read,
            within,
            deletes_strays=arguments.delete_strays,
            starts_over=arguments.restart,
            report=progress.show,
        )
    except (RebuildNotStarted, UnknownSystem) as error:
        return _say(progress, str(error), _NOT_STARTED)
    except RebuildStuck as error:
        return _say(progress, f"{error}; what was rebuilt before stays", _INCOMPLETE)
    except postgres.TRANSIENT_ERRORS as error:
        return _say(progress, f"{postgres.describe_error(error)}; run the command again to go on", _INTERRUPTED)
    except asyncio.CancelledError:
        _say(progress, "stopped; the same command goes on where it was", _INTERRUPTED)
        raise
    progress.end()
    sys.stdout.write(format_json(done) if arguments.json else format_summary(done))
    return _INCOMPLETE if done.failed_batches else _DONE


def _say(progress: ProgressLine, message: str, status: int) -> int:
    progress.end()
    sys.stderr.write(f"rebuild: {message}\n")
    return status


REBUILD_READ_MODEL = Command(
    group="rebuild",
    name="read-model",
    summary="make the read model what the write database says",
    add_arguments=_add_arguments,
    run=_run,
    # An hour of a busy system is counted in one statement, which takes long.
    statement_timeout_s=900,
)
