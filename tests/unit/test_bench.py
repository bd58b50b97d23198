"""A benchmark takes a quarter of an hour, so one section that fails leaves the figures of the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.load.bench import measure_all
from tests.load.report import BenchRow


@dataclass
class Counting:
    """A section whose round `fails_at` fails."""

    rounds: int
    fails_at: int | None = None
    began: int = 0
    rows: Sequence[BenchRow] = field(default_factory=list)
    remarks: Sequence[str] = ()

    async def round(self) -> None:
        """Only count."""
        self.began += 1
        assert self.began != self.fails_at, "3 events were counted twice"


async def test_rounds_go_in_turn() -> None:
    said: list[str] = []
    sections = {"ingest": Counting(rounds=2), "growth": Counting(rounds=1)}

    assert await measure_all(sections, said.append) == []

    assert [line.partition("]")[2] for line in said[::2]] == [
        "ingest, round 1 of 2",
        "growth, round 1 of 1",
        "ingest, round 2 of 2",
    ]


async def test_a_section_that_fails_ends_alone_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    sections = {"ingest": Counting(rounds=3, fails_at=2), "drains": Counting(rounds=3)}

    assert await measure_all(sections, lambda line: None) == ["ingest"]

    assert (sections["ingest"].began, sections["drains"].began) == (2, 3)
    assert "3 events were counted twice" in capsys.readouterr().err
