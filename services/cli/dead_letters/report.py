"""Formats dead letters: a table and details for people, JSON for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from tracking.tables.dead_letters.queries import AffectedSystem, DeadLetter, DeadLetterDetails

_HEADINGS = ("ID", "CONSUMER", "STATE", "REASON", "EVENTS", "DELIVERIES", "TIMES", "LAST SEEN", "SYSTEM", "BATCH")
_MAX_COLUMN_CHARACTERS = 40
_MAX_SYSTEMS = 3


def format_json(answer: Mapping[str, Any]) -> str:
    """Format one JSON object, with keys in camelCase as in the API, and body text and ids as strings."""
    return orjson.dumps(_plain(answer), default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode() + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, DeadLetter | AffectedSystem):
        return {_camel(name): _plain(content) for name, content in asdict(value).items()}
    if isinstance(value, Mapping):
        return {_camel(name): _plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


def format_table(letters: Sequence[DeadLetter], total: int) -> str:
    """Format one line for each dead letter, followed by its error."""
    if not letters:
        return "no dead letters\n"
    rows = [_HEADINGS, *(_row(letter) for letter in letters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = []
    for row, letter in zip(rows, (None, *letters), strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if letter is not None and letter.error:
            lines.append(f"  {_line(letter.error, 160)}")
    shown = "" if len(letters) == total else f" of {total}"
    return "\n".join([*lines, f"{len(letters)}{shown}", ""])


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        str(letter.id),
        letter.consumer,
        letter.state,
        letter.reason,
        str(letter.event_count),
        str(letter.deliveries),
        str(letter.times),
        f"{letter.last_seen_at:%Y-%m-%d %H:%M:%SZ}",
        _line(_systems(letter), _MAX_COLUMN_CHARACTERS),
        str(letter.batch_id or "-"),
    )


def _systems(letter: DeadLetter) -> str:
    names = [system.name or str(system.id) for system in letter.partner_systems[:_MAX_SYSTEMS]]
    more = len(letter.partner_systems) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "") or "-"


def _line(text: str, most: int) -> str:
    # A message may contain anything, including control sequences of a terminal.
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable if len(printable) <= most else printable[: most - 1] + "…"


def format_details(letter: DeadLetterDetails) -> str:
    """Format every field on its own line, then the ids of the events and the beginning of the body."""
    systems = [
        f"{system.name or 'unknown'} ({system.id}) of {system.partner_name or 'unknown'}"
        for system in letter.partner_systems
    ]
    named = {
        "id": letter.id,
        "consumer": letter.consumer,
        "state": letter.state,
        "reason": letter.reason,
        "error": _line(letter.error or "-", 2000),
        "batch": letter.batch_id or "-",
        "message id": _line(letter.message_id or "-", 255),
        "deliveries": letter.deliveries,
        "times given up": letter.times,
        "first seen": f"{letter.first_seen_at:%Y-%m-%d %H:%M:%SZ}",
        "last seen": f"{letter.last_seen_at:%Y-%m-%d %H:%M:%SZ}",
        "decided": f"{letter.decided_at:%Y-%m-%d %H:%M:%SZ}" if letter.decided_at else "-",
        "systems": "; ".join(systems) or "-",
        "events": letter.event_count,
    }
    lines = [f"{name + ':':<16}{value}" for name, value in named.items()]
    lines += [f"  {event_id}" for event_id in letter.event_ids]
    lines.append(f"{'body:':<16}{letter.body_bytes} bytes, beginning with")
    lines.append(f"  {_line(letter.body_start, 4096)}")
    return "\n".join([*lines, ""])
