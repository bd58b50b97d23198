"""The requests to read models of different sizes: the same requests, for the same ranges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from services.query.parameters import ListParameters
from tests.load.loader.events import NAMES, Year
from tests.support.stack import Stack

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MILLISECOND, _STEP = timedelta(milliseconds=1), timedelta(microseconds=1)
DEPTH = 1_000_000
_PAGE = 100
_PAGES = 200

# from a few pages of the table
_SAMPLE = """
select id, correlation_id
  from read.tracking_events_read_model tablesample system ($2) repeatable (1)
 where partner_system_id = $1
 order by id
"""

_AT_DEPTH = """
select event_timestamp, id
  from (
        select event_timestamp, id, row_number() over (order by event_timestamp desc, id desc) as number
          from (
                select event_timestamp, id
                  from read.tracking_events_read_model
                 where partner_system_id = $1
                   and event_timestamp >= $2
                   and event_timestamp <= $3
                 order by event_timestamp desc, id desc
                offset $4
                 limit $5
               ) as below
       ) as numbered
 where number % $6 = 0
"""


@dataclass(frozen=True, slots=True)
class GrowthSample:
    """The ids and values of a read model's first partner system that a client would know."""

    year: Year
    depth: int
    cursors: Sequence[str]
    event_ids: Sequence[UUID]
    correlation_ids: Sequence[str]

    @classmethod
    async def of(cls, stack: Stack, year: Year) -> Self:
        """Cursors at the depth of a million events, or at four fifths of all there are."""
        owner = await stack.read()
        asked = ListParameters.model_validate(_whole(year))
        within = asked.to_time_range(datetime.now(UTC))
        depth = min(DEPTH, year.events * 9 // 10 * 4 // 5)
        keys = (year.system_ids[0], within.start, within.end)
        deep = await owner.fetch(_AT_DEPTH, *keys, depth, _PAGE * _PAGES, _PAGE)
        sample = await owner.fetch(_SAMPLE, year.system_ids[0], min(100.0, 100 * 4_000 / year.events))
        return cls(
            year,
            depth,
            [asked.make_next_cursor(year.system_ids[0], within, (row["event_timestamp"], row["id"])) for row in deep],
            [row["id"] for row in sample],
            [row["correlation_id"] for row in sample],
        )

    @property
    def system(self) -> str:
        """The path of its list."""
        return f"/api/events/partner-system/{self.year.system_ids[0]}"


Path = Callable[[GrowthSample, Random], str]


@dataclass(frozen=True, slots=True)
class Question:
    """The path of the n-th request is `path(known, Random(n))`; whatever is random is the same at all sizes."""

    name: str
    path: Path
    # to be compared with a count of the events themselves
    is_statistics: bool = False


def shown(at: datetime) -> str:
    """As parameters have it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _whole(year: Year) -> dict[str, str]:
    return {"startDate": shown(year.start), "endDate": shown(year.stop - _STEP)}


def _of_the_year(**filters: Callable[[GrowthSample, Random], Any]) -> Path:
    def path(known: GrowthSample, dice: Random) -> str:
        asked = _whole(known.year) | {name: value(known, dice) for name, value in filters.items()}
        return f"{known.system}?{urlencode(asked)}"

    return path


def _first_page(known: GrowthSample, dice: Random) -> str:
    """30 days to a full hour, which is what a list is about unless it is told otherwise."""
    end = known.year.start + 30 * _DAY + _HOUR * dice.randrange(334 * 24)
    asked = {"startDate": shown(end - 30 * _DAY), "endDate": shown(end - _STEP)}
    return f"{known.system}?{urlencode(asked)}"


def _event(known: GrowthSample, dice: Random) -> str:
    return f"/api/events/{dice.choice(known.event_ids)}"


def _range(length: timedelta) -> Callable[[Year, Random], dict[str, str]]:
    """Anywhere in the year."""

    def somewhere(year: Year, dice: Random) -> dict[str, str]:
        start = year.start + _MILLISECOND * dice.randrange((year.stop - year.start - length) // _MILLISECOND)
        return {"startDate": shown(start), "endDate": shown(start + length - _STEP)}

    return somewhere


def _nearly_all(year: Year, dice: Random) -> dict[str, str]:
    early, late = (_MILLISECOND * dice.randrange(12 * _HOUR // _MILLISECOND) for _ in range(2))
    return {"startDate": shown(year.start + early), "endDate": shown(year.stop - late)}


def _statistics(within: Callable[[Year, Random], dict[str, str]], **also: str) -> Path:
    def path(known: GrowthSample, dice: Random) -> str:
        return f"{known.system}/statistics?{urlencode(within(known.year, dice) | also)}"

    return path


STATISTICS = (
    Question("statistics of an hour", _statistics(_range(_HOUR)), is_statistics=True),
    Question("statistics of a day", _statistics(_range(_DAY)), is_statistics=True),
    Question("statistics of a month", _statistics(_range(30 * _DAY)), is_statistics=True),
    Question("statistics of a year", _statistics(_nearly_all), is_statistics=True),
)
FIRST_PAGE = Question("first page", _first_page)
DEEP_PAGE = Question("page at depth by cursor", _of_the_year(cursor=lambda known, dice: dice.choice(known.cursors)))
OTHERS = (
    Question("first page of a year", _of_the_year()),
    Question("eventName, frequent", _of_the_year(eventName=lambda known, dice: NAMES[0])),
    Question("eventName, rare", _of_the_year(eventName=lambda known, dice: NAMES[-1])),
    Question("isValid=false", _of_the_year(isValid=lambda known, dice: "false")),
    Question("userId", _of_the_year(userId=lambda known, dice: f"user_{dice.randrange(known.year.visitors):08d}")),
    Question(
        "anonymousId", _of_the_year(anonymousId=lambda known, dice: f"anon_{dice.randrange(known.year.visitors):08d}")
    ),
    Question("correlationId", _of_the_year(correlationId=lambda known, dice: dice.choice(known.correlation_ids))),
    Question("single event by id", _event),
    Question("uniqueActors of a day", _statistics(_range(_DAY), uniqueActors="true"), is_statistics=True),
    Question("uniqueActors of a month", _statistics(_range(30 * _DAY), uniqueActors="true"), is_statistics=True),
)
QUESTIONS = (*STATISTICS, FIRST_PAGE, DEEP_PAGE, *OTHERS)
