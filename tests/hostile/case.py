"""The type of a hostile case, and the functions that send a table of cases and check the responses."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import raw_http
from tests.support.polling import PATIENCE_S
from tests.support.raw_http import Ending, RawResponse

_AT_ONCE = 16
_SHAPES = ({"code", "message", "correlationId"}, {"code", "message", "correlationId", "details"})


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes, and what may come back.

    `statuses` 0 is a connection closed without a word. `code` is that of the error; `rejected` is how many
    events of a batch are rejected. `pieces` are sent one after the other.
    """

    name: str
    pieces: tuple[bytes, ...]
    statuses: frozenset[int]
    code: str | None = None
    rejected: int | None = None
    ending: Ending = "wait"


def case(
    name: str,
    raw: bytes | Sequence[bytes],
    *statuses: int,
    code: str | None = None,
    rejected: int | None = None,
    ending: Ending = "wait",
) -> Case:
    """`case("no JSON", raw, 400, code="malformed_json")`."""
    pieces = (raw,) if isinstance(raw, bytes) else tuple(raw)
    return Case(name, pieces, frozenset(statuses), code, rejected, ending)


async def faults_of(url: str, cases: Sequence[Case]) -> list[str]:
    """Send all of them, some at once; a line for each that was not answered as it should."""
    names = Counter(one.name for one in cases)
    assert not [name for name, count in names.items() if count > 1], "a case's name is its own"
    limit = asyncio.Semaphore(_AT_ONCE)

    async def judge(one: Case) -> str | None:
        async with limit:
            try:
                answer = await raw_http.exchange(url, *one.pieces, timeout_s=PATIENCE_S, ending=one.ending)
            except TimeoutError:
                return f"{one.name}: hangs"
        fault = _fault(one, answer)
        return fault and f"{one.name}: {fault}; sent {one.pieces[0][-300:]!r}, got {answer.body[:300]!r}"

    return [fault for fault in await asyncio.gather(*(judge(one) for one in cases)) if fault]


def _fault(one: Case, answer: RawResponse) -> str | None:
    if answer.status not in one.statuses:
        return f"{answer.status} instead of {sorted(one.statuses)}"
    if answer.status < 400:
        return _fault_of_success(one, answer)
    if answer.headers.get("content-type") == "image/gif":
        # a pixel stays a pixel
        told = answer.headers.get("x-error-code")
        return None if told == (one.code or told) is not None else f"{told} instead of {one.code}"
    try:
        body = answer.json()
    except ValueError:
        return f"{answer.status} without JSON"
    if set(body) not in _SHAPES or body["correlationId"] != answer.headers.get("x-correlation-id"):
        return f"{answer.status} in another shape"
    if one.code is not None and body["code"] != one.code:
        return f"{body['code']} instead of {one.code}"
    return None


def _fault_of_success(one: Case, answer: RawResponse) -> str | None:
    if one.rejected is None:
        return None
    rejected = answer.json()["refused"]
    return None if rejected == one.rejected else f"{rejected} rejected instead of {one.rejected}"


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def named(prefix: str, cases: Iterable[Case]) -> list[Case]:
    """The same with `prefix` before each name."""
    return [Case(f"{prefix}: {c.name}", c.pieces, c.statuses, c.code, c.rejected, c.ending) for c in cases]
