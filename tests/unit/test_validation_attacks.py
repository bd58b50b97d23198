"""Attacks by a schema or an event, on purpose or not: no code of theirs runs, and nothing hangs."""

import time
from contextlib import suppress
from typing import Any

import orjson
import pytest

from tracking.domain.errors import Malformed
from tracking.infra.validation import check_schema, compile_schema

# of processor time, which other processes do not add to; what is caught here takes seconds to hours
SLOW_S = 0.25
LONGEST = 64 * 1024


def _codes(schema: Any, value: Any) -> list[str]:
    check_schema(schema)
    return [error["code"] for error in compile_schema(schema).find_errors(value)]


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "name",
    [
        "{}", "{0}", "{data}", "{__import__('os')}", '"""', "\n", "\r\u2028", "'); import os; (", '"); os; ("', "\\",
        '\\"', "'", "%s", "#", "", "a/b~c", "$ref", "$id", "id", "missing", "keys", "\x00", "é",
    ],
)  # fmt: skip
def test_a_hostile_name_is_a_name(name: str) -> None:
    schema = {
        "title": name,
        "description": name,
        "$comment": name,
        "default": {name: name},
        "examples": [name],
        "type": "object",
        "properties": {name: {"type": "string", "enum": [name, "other"]}, "fixed": {"const": {name: [name]}}},
        "required": [name],
        "dependencies": {name: [name], "d" + name: {"required": [name]}},
        "additionalProperties": {"type": "integer"},
    }

    assert _codes(schema, {name: name, "fixed": {name: [name]}, "more": 1}) == []
    assert "type" in _codes(schema, {name: 1})
    assert _codes(schema, {}) == ["required"]
    assert _codes(schema, {name: "other", "fixed": {name: name}}) == ["const"]
    assert _codes(schema, {name: "other", "e" + name: "text"}) == ["type"]
    assert _codes({"const": {"$ref": name, "$id": name}}, {"$ref": name, "$id": name}) == []


def test_definitions_that_differ_in_case_only_are_two() -> None:
    schema = {
        "definitions": {"Money": {"type": "integer"}, "money": {"type": "string"}, "m_oney": {"type": "null"}},
        "items": [{"$ref": f"#/definitions/{name}"} for name in ("Money", "money", "m_oney")],
    }

    with suppress(Malformed):
        assert _codes(schema, [1, "1", None]) == []
        assert _codes(schema, ["1", 1, 1]) == ["type"] * 3


def test_what_stands_in_a_schema_as_data_is_not_followed() -> None:
    remote = {"$ref": "http://localhost/", "$id": "http://localhost/"}
    schema = {"enum": [remote], "default": remote, "examples": [remote], "properties": {"$ref": True, "$id": True}}

    assert _codes(schema, remote) == []


@pytest.mark.parametrize(
    "schema",
    [
        None, 1, "a", [],
        {"type": "text"}, {"type": [[]]}, {"type": ["null", "null"]}, {"type": 1}, {"type": []},
        {"required": "a"}, {"required": [1]}, {"properties": []}, {"items": 7}, {"allOf": {}}, {"enum": 1},
        {"$schema": "http://json-schema.org/draft-04/schema#"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"description": "x" * LONGEST}, _nested(40), _nested(900),
        {"properties": {str(number): {} for number in range(501)}},
        {"$ref": "http://localhost/"}, {"$ref": "file:///etc/passwd"}, {"$ref": "other.json#/a"}, {"$ref": "#name"},
        {"$ref": "#/nowhere"}, {"$ref": 1},
        {"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"dependencies": {"a": {"$ref": "#"}}},
        {"if": {"$ref": "#"}, "then": {}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}},
        {"properties": {"a": {"$id": "http://localhost/"}}}, {"definitions": {"a": {"id": "http://localhost/"}}},
        {"multipleOf": 0}, {"multipleOf": -1}, {"multipleOf": True}, {"minLength": -1}, {"minLength": 1.5},
        {"minimum": "1"}, {"minimum": float("nan")}, {"const": float("inf")},
        {"unevaluatedProperties": False}, {"dependentRequired": {}}, {"dependentSchemas": {}}, {"prefixItems": []},
        {"minContains": 1}, {"maxContains": 1}, {"requierd": ["a"]}, {"properties": {"a": {"nullable": True}}},
        {"format": "unheard-of"}, {"format": ["date"]},
        {"pattern": "a" * 257}, {"pattern": "("}, {"pattern": "(?=a)"}, {"pattern": "(a)\\1"}, {"pattern": "a{1,5000}"},
        {"pattern": 1}, {"patternProperties": {"(": {}}}, {"patternProperties": {"(?<!a)b": {}}},
    ],
)  # fmt: skip
def test_a_schema_is_rejected_with_its_reasons(schema: Any) -> None:
    with pytest.raises(Malformed) as rejected:
        check_schema(schema)

    assert rejected.value.code == "invalid_schema"
    assert rejected.value.details
    assert all(detail["field"].startswith("#") and detail["message"] for detail in rejected.value.details)


@pytest.mark.parametrize(
    "schema", [None, 1, [], {"type": "x"}, {"$ref": "http://localhost/"}, {"$ref": "#"}, {"pattern": "("}, {"items": 7}]
)
def test_a_schema_that_cannot_be_compiled_is_faulty_for_every_value(schema: Any) -> None:
    validator = compile_schema(schema)
    values: list[Any] = [{}, None, ["a"]]

    for value in values:
        (error,) = validator.find_errors(value)
        assert error["code"] == "schema_faulty"
        # the reason is the schema's own, not an error of the validator that stands for it
        assert error["message"] == "the schema cannot be applied: Malformed"


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a|a)*b", "(a*)*b", "a+b", "^(aa?)*b", "^.*.*b", "^[^@]+@[^@]+\\.[^@]+$", "(x+x+)+y", ".*.*=.*",
        "^(([a-z])+.)+[A-Z]([a-z])+$", "^a*a*a*a*b", "(?:a?){30}a{30}", "^(a?){1000}b", "^(?:.{1,100}){1,100}b",
        "a{1,1000}b", "[a-z]{20}", "^(foo|foobar)+$", "^[a-z]+$", "^[a-z0-9]+(-[a-z0-9]+)*$", "^https?://[^/]+/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
def test_no_pattern_that_is_taken_is_slow(pattern: str, keyword: str) -> None:
    schema = {keyword: pattern if keyword == "pattern" else {pattern: False}}
    with suppress(Malformed):
        check_schema(schema)
        validator = compile_schema(schema)
        for piece in ("a", "b", "x", "-", "a-", ".", "1", "@.", "é", "ab", "=", "foo", "foobar"):
            text = (piece * LONGEST)[:LONGEST]
            for hostile in (text, text + "!", "a@" + text + "@\n"):
                _is_quick(validator.find_errors, hostile if keyword == "pattern" else {hostile: 1})


@pytest.mark.parametrize(
    "name", ["date", "date-time", "time", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid", "regex"]
)
def test_no_format_is_slow(name: str) -> None:
    check_schema({"format": name})
    validator = compile_schema({"format": name})

    for piece in (".", "a", "@.", "a.", "/", "1", ":", "%", "(", "-", "{a", "~", "a@", "2025-12-24T00:00:00.1", "::"):
        _is_quick(validator.find_errors, (piece * LONGEST)[:LONGEST])


def test_references_that_multiply_do_not_hang() -> None:
    twice = {f"d{number}": {"allOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2} for number in range(40)}
    wide = {"$defs": {**twice, "d40": {"type": "integer"}}, "$ref": "#/$defs/d0"}
    tall = {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
    value: Any = 1
    for _ in range(60):
        value = {"a": value}

    for schema in (wide, tall):
        with suppress(Malformed):
            _is_quick(check_schema, schema)
        validator = compile_schema(schema)
        for checked in (1, value):
            _is_quick(validator.find_errors, checked)


@pytest.mark.parametrize("value", [orjson.loads("[" * 1_000 + "]" * 1_000), "\ud800", 10**400, float("inf")])
def test_a_value_as_no_client_can_send_it_does_no_harm(value: Any) -> None:
    schema = {"uniqueItems": True, "items": {"$ref": "#"}, "multipleOf": 0.1, "pattern": "^a+$", "enum": [1, [[2]]]}

    check_schema(schema)
    errors = compile_schema(schema).find_errors(value)

    assert 0 < len(errors) <= 20
    assert all(set(error) == {"code", "path", "schemaPath", "message"} for error in errors)


def _is_quick(function: Any, argument: Any) -> None:
    started = time.thread_time()
    try:
        function(argument)
    finally:
        assert time.thread_time() - started < SLOW_S
