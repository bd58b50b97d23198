"""The output of a rebuild while it works and when it is done."""

import io
import json
from dataclasses import replace
from uuid import UUID

from services.cli.rebuild.report import ProgressLine, format_json, format_summary
from services.cli.rebuild.state import RebuildState

BEGUN = RebuildState(None, None, False, UUID(int=0), UUID(int=9), total_batches=400)


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO) -> list[str]:
    """The lines after four steps, a second apart, of 40 batches and 20 000 events each; the last is the fifth's."""
    times = iter(range(100))
    progress = ProgressLine(out, clock=lambda: float(next(times)))
    for step in range(6):
        progress.show(replace(BEGUN, done_batches=40 * step, done_events=20_000 * step))
    progress.show(replace(BEGUN, phase="done", done_batches=400, total_hours=7, done_hours=7))
    progress.end()
    return out.getvalue().replace("\r\x1b[K", "\n").split("\n")


def test_a_log_gets_a_line_now_and_then() -> None:
    lines = shown(io.StringIO())

    assert lines == [
        " batches 0 of 400 (0 %)",
        " batches 200 of 400 (50 %), 100,000 events, 20,000 events/s, about 5 s left",
        "    done 7 of 7 (100 %)",
        "",
    ]


def test_a_terminal_gets_every_step_in_one_line() -> None:
    lines = shown(Terminal())

    assert len(lines) == 9
    assert lines[3] == " batches 80 of 400 (20 %), 40,000 events, 20,000 events/s, about 8 s left"


def test_the_result_names_what_could_not_be_applied() -> None:
    done = replace(BEGUN, phase="done", failed_batches=[UUID(int=5)], missing_events=1_200)

    assert str(UUID(int=5)) in format_summary(done)
    assert "1,200 events of these batches are not in the write database any more" in format_summary(done)
    assert json.loads(format_json(done))["failedBatches"] == [str(UUID(int=5))]


def test_links_are_checked_before_it_is_known_how_many_there_are() -> None:
    out = io.StringIO()
    times = iter((0.0, 1.0, 6.0, 7.0))
    progress = ProgressLine(out, clock=lambda: next(times))
    for checked in (0, 5_000, 30_000):
        progress.show(replace(BEGUN, phase="links", checked_links=checked))
    progress.show(BEGUN)

    assert out.getvalue().splitlines() == [
        "   links 0 checked",
        "   links 30,000 checked",
        " batches 0 of 400 (0 %)",
    ]


def test_the_result_says_what_became_of_links() -> None:
    done = replace(BEGUN, phase="done", repaired_links=1_500, deleted_links=20)

    assert "1,500 links between ids were missing or wrong and were written, 20 " in format_summary(done)
    assert "links" not in format_summary(BEGUN)
    assert json.loads(format_json(done))["repairedLinks"] == 1_500
    assert json.loads(format_json(done))["deletedLinks"] == 20
