"""The commands `dead-letters list|show|retry|discard`, with their arguments and output."""

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from services.cli.commands import Command
from services.cli.dead_letters.report import format_details, format_json, format_table
from tracking.contracts import topology
from tracking.domain.errors import Rejected
from tracking.infra import postgres
from tracking.infra.postgres import Connection, Pool
from tracking.tables.dead_letters import decisions, queries
from tracking.tables.dead_letters.queries import DeadLetter

_DONE, _INCOMPLETE, _USAGE, _UNAVAILABLE = 0, 1, 2, 3
Decision = Callable[[Connection, UUID], Awaitable[None]]


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dead-letters list`."""
    parser.add_argument("--consumer", choices=topology.CONSUMERS, help="only this consumer's")
    parser.add_argument("--state", choices=["open", "retried", "discarded", "applied", "any"], default="open")
    parser.add_argument("--limit", type=_count, default=100, help="at most so many; default 100")
    parser.add_argument("--offset", type=_count, default=0, help="leave out so many, the first seen first")
    _add_json(parser)


def add_show_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dead-letters show`."""
    parser.add_argument("ids", metavar="id", nargs="+", type=_id)
    _add_json(parser)


def add_decision_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dead-letters retry` and `dead-letters discard`."""
    parser.add_argument("ids", metavar="id", nargs="*", type=_id)
    parser.add_argument("--all", action="store_true", help="all that are open of --consumer")
    parser.add_argument("--consumer", choices=topology.CONSUMERS)
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no id") from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


async def run_list(arguments: argparse.Namespace, write: Pool, read: Pool) -> int:
    """Print a page of dead letters."""
    state = None if arguments.state == "any" else arguments.state
    try:
        async with write.acquire() as connection:
            found, total = await queries.list_dead_letters(
                connection, arguments.consumer, state, arguments.limit, arguments.offset
            )
    except postgres.TRANSIENT_ERRORS as error:
        return _report_unavailable(error)
    sys.stdout.write(format_json({"total": total, "items": found}) if arguments.json else format_table(found, total))
    return _DONE


async def run_show(arguments: argparse.Namespace, write: Pool, read: Pool) -> int:
    """Print the given dead letters with all their details."""
    found = []
    status = _DONE
    try:
        async with write.acquire() as connection:
            for letter_id in arguments.ids:
                try:
                    found.append(await queries.find_dead_letter(connection, letter_id))
                except Rejected as error:
                    status = _report_rejected(error)
    except postgres.TRANSIENT_ERRORS as error:
        return _report_unavailable(error)
    sys.stdout.write(format_json({"items": found}) if arguments.json else "\n".join(map(format_details, found)))
    return status


async def run_retry(arguments: argparse.Namespace, write: Pool, read: Pool) -> int:
    """Mark the given dead letters so that the relay sends them again."""
    return await _decide_all(arguments, write, decisions.mark_for_retry)


async def run_discard(arguments: argparse.Namespace, write: Pool, read: Pool) -> int:
    """Discard the given dead letters without applying them."""
    return await _decide_all(arguments, write, decisions.mark_discarded)


async def _decide_all(arguments: argparse.Namespace, write: Pool, decide: Decision) -> int:
    if arguments.all == bool(arguments.ids) or (arguments.all and not arguments.consumer):
        sys.stderr.write("dead-letters: say which: ids, or --all --consumer NAME\n")
        return _USAGE
    status = _DONE
    try:
        async with write.acquire() as connection:
            ids = await queries.list_open_ids(connection, arguments.consumer) if arguments.all else arguments.ids
            decided: list[DeadLetter] = []
            for letter_id in ids:
                try:
                    decided.append(await _decide_one(connection, letter_id, decide))
                except Rejected as error:
                    status = _report_rejected(error)
    except postgres.TRANSIENT_ERRORS as error:
        return _report_unavailable(error)
    _show(decided, is_json=arguments.json)
    return status


async def _decide_one(connection: Connection, letter_id: UUID, decide: Decision) -> DeadLetter:
    # Each decision has its own transaction, so that one that is refused does not undo the others.
    async with connection.transaction():
        await decide(connection, letter_id)
    return await queries.find_dead_letter(connection, letter_id)


def _show(decided: Sequence[DeadLetter], *, is_json: bool) -> None:
    sys.stdout.write(format_json({"items": decided}) if is_json else format_table(decided, len(decided)))


def _report_rejected(error: Rejected) -> int:
    sys.stderr.write(f"dead-letters: {error.message}\n")
    return _INCOMPLETE


def _report_unavailable(error: BaseException) -> int:
    sys.stderr.write(f"dead-letters: the write database does not answer: {postgres.describe_error(error)}\n")
    return _UNAVAILABLE


_GROUP = "dead-letters"
DEAD_LETTERS = (
    Command(_GROUP, "list", "batches and messages a consumer gave up", add_list_arguments, run_list),
    Command(_GROUP, "show", "all that is known about some, with their events' ids", add_show_arguments, run_show),
    Command(_GROUP, "retry", "have the relay send some again", add_decision_arguments, run_retry),
    Command(_GROUP, "discard", "settle some without applying them", add_decision_arguments, run_discard),
)
