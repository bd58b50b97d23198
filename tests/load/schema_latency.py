"""`python -m tests.load.schema_latency`: measures how long one schema and one event can block the gateway's event loop.

Prints for each pair of `tests.support.costly_schemas` what registration said, how long compiling in a thread delayed
the loop (median of three), and how long the validation held it (the best and the worst of nine runs). Where an event
is too costly, the largest part of it that is not is validated too. Exit status 1 if a median or a best is past
50 ms: the worst ones are those of the machine, which does other things as well.
"""

import asyncio
import sys
import time
from itertools import islice
from statistics import median
from typing import Any

import orjson
import uvloop

from tests.support.costly_schemas import hostile
from tracking.domain.errors import Malformed
from tracking.infra.validation import Validator, check_schema, compile_schema
from tracking.infra.validation.patterns import compile_pattern

LIMIT_MS = 50.0
_RUNS = 9
# name, bytes of the event, answer, compile lag, best and worst of the validation in ms
LatencyRow = tuple[str, int, str, float, float, float]


async def _worst_gap_ms(stop: asyncio.Event) -> float:
    """The longest time in which the loop did not come round, above the pause that was asked for."""
    worst = 0.0
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, (time.perf_counter() - before) * 1000 - 1)
    return worst


async def _compiled(schema: object) -> tuple[Validator, float]:
    compile_pattern.cache_clear()
    stop = asyncio.Event()
    watching = asyncio.create_task(_worst_gap_ms(stop))
    await asyncio.sleep(0.005)
    validator = await asyncio.to_thread(compile_schema, schema)
    stop.set()
    return validator, await watching


def _part(value: Any, length: int) -> Any:
    return dict(islice(value.items(), length)) if isinstance(value, dict) else value[:length]


def _dearest(validator: Validator, properties: dict[str, Any]) -> dict[str, Any]:
    """The largest beginning of the value that is not too costly."""
    value = properties["v"]
    low, high = 0, len(value)
    while low < high:
        middle = (low + high + 1) // 2
        part = {"v": _part(value, middle)}
        is_too_much = _code(validator, part) == "validation_too_costly"
        low, high = (low, middle - 1) if is_too_much else (middle, high)
    return {"v": _part(value, low)}


def _code(validator: Validator, properties: dict[str, Any]) -> str:
    errors = validator.find_errors(properties, len(orjson.dumps(properties)))
    return errors[0]["code"] if errors else "valid"


def _timed(name: str, validator: Validator, properties: dict[str, Any], lag_ms: float) -> LatencyRow:
    size = len(orjson.dumps(properties))
    times: list[float] = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        validator.find_errors(properties, size)
        times.append((time.perf_counter() - started) * 1000)
    return name, size, _code(validator, properties), lag_ms, min(times), max(times)


async def main() -> int:
    """The exit status."""
    rows: list[LatencyRow] = []
    for name, schema, properties in hostile():
        try:
            check_schema(schema)
        except Malformed as rejection:
            print(f"{name}: refused, {rejection.message[:80]}")
            continue
        compiled = [await _compiled(schema) for _ in range(3)]
        validator, lag_ms = compiled[0][0], median(lag for _, lag in compiled)
        rows.append(_timed(name, validator, properties, lag_ms))
        if rows[-1][2] == "validation_too_costly":
            rows.append(_timed(name, validator, _dearest(validator, properties), lag_ms))
    print(f"{'schema and event':34}{'bytes':>6}  {'answer':24}{'compile ms':>10}{'best ms':>9}{'worst ms':>10}")
    for name, size, said, lag_ms, best, worst in sorted(rows, key=lambda row: -row[4]):
        print(f"{name:34}{size:6}  {said:24}{lag_ms:10.1f}{best:9.2f}{worst:10.2f}")
    highest = max(max(lag_ms, best) for *_, lag_ms, best, _ in rows)
    print(f"{len(rows)} events; the loop was held for {highest:.1f} ms at most, the limit is {LIMIT_MS:.0f} ms")
    return int(highest > LIMIT_MS)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main()))
