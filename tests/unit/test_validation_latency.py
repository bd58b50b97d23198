"""The most expensive schemas with the most expensive events stay within the budget, which is counted and not timed.

`python -m tests.load.schema_latency` measures the same pairs.
"""

import sys
from types import FrameType
from typing import Any

import pytest

from tests.support.costly_schemas import hostile
from tracking.infra.validation import Validator, check_schema, compile_schema, cost

PAIRS = {name: (schema, properties) for name, schema, properties in hostile()}
# A line of Python takes about as long as one unit of the budget (0.1 µs), some less, few more.
LINES_A_UNIT = 2


def lines_run(validator: Validator, value: Any) -> tuple[int, list[str]]:
    """How many lines of Python it took, and the codes of the errors."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        errors = validator.find_errors(value)
    finally:
        sys.settrace(before)
    return lines, [error["code"] for error in errors]


def beginning(value: Any, length: int) -> Any:
    return dict(list(value.items())[:length]) if isinstance(value, dict) else value[:length]


def dearest(validator: Validator, value: Any) -> Any:
    """The largest beginning of it that is not too costly."""
    low, high = 0, len(value) if isinstance(value, dict | list | str) else 0
    while low < high:
        middle = (low + high + 1) // 2
        codes = [error["code"] for error in validator.find_errors({"v": beginning(value, middle)})]
        low, high = (low, middle - 1) if codes == ["validation_too_costly"] else (middle, high)
    return {"v": beginning(value, low)}


@pytest.mark.parametrize("name", PAIRS)
def test_no_schema_that_is_taken_runs_past_the_budget(name: str) -> None:
    schema, properties = PAIRS[name]
    check_schema(schema)
    validator = compile_schema(schema)

    lines, codes = lines_run(validator, properties)
    if codes == ["validation_too_costly"]:
        assert lines < LINES_A_UNIT * cost.BUDGET
        lines, codes = lines_run(validator, dearest(validator, properties["v"]))

    assert lines < LINES_A_UNIT * cost.BUDGET
    assert not {"schema_faulty", "validation_too_costly"} & set(codes)
