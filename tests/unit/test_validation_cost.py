"""The cost of a validation is known before it starts; an event that would cost too much is flagged instead."""

import itertools
import time
from typing import Any

import pytest

from tracking.infra.validation import check_schema, compile_schema

# Of processor time, which other processes do not add to: ten times what the slowest case needs here. Without the guards
# they need up to minutes.
PATIENCE_S = 0.5
# CPython gives -1 and -2 the same hash, so sets of such lists compare each with each.
COLLIDING = [list(signs) for signs in itertools.islice(itertools.product([-1, -2], repeat=11), 1_700)]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"anyOf": [{"type": "string"}, {"type": "null"}] * 200}}, [1] * 32_000),
        ({"items": {"enum": [*range(5, 900)]}}, [1] * 32_000),
        ({"items": {"properties": {f"p{n}": True for n in range(400)}}}, [{}] * 21_000),
        ({"items": {"required": [f"p{n}" for n in range(400)]}}, [{}] * 21_000),
        ({"items": {"dependencies": {f"p{n}": ["a"] for n in range(400)}}}, [{}] * 21_000),
        ({"items": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}}, [{}] * 21_000),
        ({"items": {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "null"}}}, [1] * 32_000),
        (
            {"patternProperties": {f"^k{n}": {"type": "integer"} for n in range(200)}},
            {f"k{n}": 1 for n in range(6_000)},
        ),
        ({"uniqueItems": True}, COLLIDING),
        ({"uniqueItems": True, "items": {"uniqueItems": True}}, COLLIDING),
        ({"allOf": [{"pattern": f"x{n}+y"} for n in range(200)]}, "x" * 64_000),
        ({"pattern": "(a{0,100}){4}b"}, "a" * 64_000),
        ({"items": {"multipleOf": 0.01}}, [19.011] * 10_000),
    ],
)
def test_a_value_that_would_take_too_long_is_flagged_instead(schema: Any, value: Any) -> None:
    check_schema(schema)
    validator = compile_schema(schema)
    started = time.thread_time()

    errors = validator.find_errors(value)

    assert time.thread_time() - started < PATIENCE_S
    assert errors
    assert errors[0]["code"] in ("validation_too_costly", "multiple_of")


def test_the_length_of_a_value_saves_the_look_at_it_only_where_it_is_sure() -> None:
    validator = compile_schema({"items": {"enum": [*range(5, 900)]}})

    assert [error["code"] for error in validator.find_errors([1], 3)] == ["enum"]
    assert [error["code"] for error in validator.find_errors([1] * 32_000, 64_001)] == ["validation_too_costly"]


def test_a_value_of_every_day_is_not_flagged() -> None:
    line = {"sku": "ABC-1", "price": 9.99, "tags": ["a", "b"]}
    price = {"type": "number", "minimum": 0, "multipleOf": 0.01}
    tags = {"type": "array", "uniqueItems": True, "items": {"type": "string", "maxLength": 20}}
    item = {
        "type": "object",
        "required": ["sku"],
        "properties": {"sku": {"pattern": "^[A-Z]"}, "price": price, "tags": tags},
    }
    schema = {"properties": {"lines": {"type": "array", "items": item}, "text": {"type": "string", "pattern": "^.*$"}}}

    assert compile_schema(schema).find_errors({"lines": [line] * 400, "text": "x" * 10_000}) == []


def test_a_fault_far_inside_a_large_value_is_known_even_if_its_place_is_not() -> None:
    [error] = compile_schema({"items": {"type": "integer"}}).find_errors([1] * 30_000 + ["x"])

    assert error["code"] == "schema"


def test_what_is_told_of_a_fault_is_short_whatever_the_names_are() -> None:
    name = "n" * 60_000
    schema = {"properties": {name: {"enum": ["v" * 4_000]}}, "additionalProperties": False}

    errors = compile_schema(schema).find_errors({name: 1, "m" * 60_000: 1})

    assert [error["code"] for error in errors] == ["enum", "additional_properties"]
    assert sum(len(text) for error in errors for text in error.values()) < 3_000


def test_a_value_deeper_than_the_stack_is_flagged() -> None:
    value: Any = {}
    for _ in range(100_000):
        value = {"a": value}

    [error] = compile_schema({"properties": {"a": {"$ref": "#"}}}).find_errors(value)

    assert error["code"] in ("schema_faulty", "validation_too_costly")
    while value:  # taken apart by hand, as freeing it whole would go as deep
        value = value["a"]
