"""Reports a rebuild to the person who started it: a line of progress on stderr, the result on stdout."""

import time
from collections.abc import Callable
from typing import TextIO

import orjson

from services.cli.rebuild.state import RebuildState

_PROGRESS_INTERVAL_S = {True: 0.2, False: 5.0}


class ProgressLine:
    """A progress line that is overwritten on a terminal; elsewhere a new line is printed now and then."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._is_terminal = out.isatty()
        self._phase = ""
        self._began_at = 0.0
        self._began_with = 0
        self._events_before = 0
        self._shown_at = 0.0

    def show(self, rebuild: RebuildState) -> None:
        """Show the progress; called after each step."""
        now = self._clock()
        done, total = _steps(rebuild)
        is_new = rebuild.phase != self._phase
        if is_new:
            self._phase, self._began_at, self._began_with = rebuild.phase, now, done
            self._events_before = rebuild.done_events
        if is_new or done == total > 0 or now - self._shown_at >= _PROGRESS_INTERVAL_S[self._is_terminal]:
            self._shown_at = now
            self._write(self._line(rebuild, done, total, now - self._began_at))

    def end(self) -> None:
        """End the progress line, so that it stays on the terminal."""
        if self._is_terminal and self._phase:
            self._out.write("\n")

    def _line(self, rebuild: RebuildState, done: int, total: int, seconds: float) -> str:
        if rebuild.phase == "links":
            return f"{rebuild.phase:>8} {rebuild.checked_links:,} checked"
        percent = 100 if total == 0 else min(100 * done // total, 100)
        line = f"{rebuild.phase:>8} {done:,} of {total:,} ({percent} %)"
        if rebuild.phase == "batches" and seconds > 0:
            rate = (rebuild.done_events - self._events_before) / seconds
            line += f", {rebuild.done_events:,} events, {rate:,.0f} events/s"
        steps = done - self._began_with
        if steps > 0 and done < total:
            line += f", about {_duration(seconds / steps * (total - done))} left"
        return line

    def _write(self, line: str) -> None:
        self._out.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._out.flush()


def _steps(rebuild: RebuildState) -> tuple[int, int]:
    if rebuild.phase == "batches":
        return rebuild.done_batches, rebuild.total_batches
    return rebuild.done_hours, rebuild.total_hours


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_summary(rebuild: RebuildState) -> str:
    """Format the result for a person."""
    lines = [
        f"The read model is rebuilt ({rebuild.range}).",
        f"  {rebuild.done_batches:,} batches with {rebuild.done_events:,} events; "
        f"{rebuild.repaired_events:,} were missing or wrong and were written",
        f"  {rebuild.done_hours:,} hours of systems; {rebuild.repaired_counts:,} counts were corrected",
    ]
    if rebuild.repaired_links or rebuild.deleted_links:
        lines.append(
            f"  {rebuild.repaired_links:,} links between ids were missing or wrong and were written, "
            f"{rebuild.deleted_links:,} that no event justifies were deleted"
        )
    if rebuild.deletes_strays:
        lines.append(f"  {rebuild.deleted_strays:,} rows that the write database does not have were deleted")
    if rebuild.missing_events:
        lines.append(f"  {rebuild.missing_events:,} events of these batches are not in the write database any more")
    if rebuild.failed_batches:
        lines.append(f"  {len(rebuild.failed_batches):,} batches could not be applied and were left out:")
        lines += [f"    {batch_id}" for batch_id in rebuild.failed_batches]
    return "\n".join(lines) + "\n"


def format_json(rebuild: RebuildState) -> str:
    """Format the result as JSON for a program."""
    return (
        orjson.dumps(
            {
                "from": rebuild.from_time,
                "to": rebuild.to_time,
                "phase": rebuild.phase,
                "batches": rebuild.done_batches,
                "events": rebuild.done_events,
                "repairedEvents": rebuild.repaired_events,
                "missingEvents": rebuild.missing_events,
                "failedBatches": [str(batch_id) for batch_id in rebuild.failed_batches],
                "hours": rebuild.done_hours,
                "repairedCounts": rebuild.repaired_counts,
                "deletedStrays": rebuild.deleted_strays,
                "repairedLinks": rebuild.repaired_links,
                "deletedLinks": rebuild.deleted_links,
            }
        ).decode()
        + "\n"
    )
