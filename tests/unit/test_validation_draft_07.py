"""Validation follows JSON Schema draft-07, and reports all errors of a value at once."""

import json
import random
from typing import Any

import jsonschema
import orjson
import pytest

from tracking.domain.errors import Malformed
from tracking.infra.validation import check_schema, compile_schema

ORDER = {
    "type": "object",
    "properties": {
        "price": {"type": "number", "minimum": 0},
        "currency": {"type": "string", "minLength": 3},
        "lines": {"type": "array", "items": {"$ref": "#/definitions/line"}},
    },
    "required": ["price", "currency"],
    "additionalProperties": False,
    "definitions": {"line": {"type": "object", "required": ["sku"], "properties": {"count": {"type": "integer"}}}},
}


def test_a_value_that_meets_the_schema_has_no_errors() -> None:
    check_schema(ORDER)

    assert (
        compile_schema(ORDER).find_errors({"price": 1, "currency": "VND", "lines": [{"sku": "a", "count": 2.0}]}) == []
    )


def test_every_missing_field_and_every_wrong_one_is_told_with_its_places() -> None:
    errors = compile_schema(ORDER).find_errors({"price": "1", "lines": [{"sku": "a"}, {"count": "2"}], "note": 1})

    assert {(error["code"], error["schemaPath"]) for error in errors} == {
        ("required", "#/required"),
        ("type", "#/properties/price/type"),
        ("required", "#/definitions/line/required"),
        ("type", "#/definitions/line/properties/count/type"),
        ("additional_properties", "#/additionalProperties"),
    }
    assert {"/price", "/lines/1/count", "/note"} <= {error["path"] for error in errors}
    assert all(error["message"] for error in errors)


def test_no_value_of_the_event_stands_in_a_message() -> None:
    schema = {
        "properties": {"card": {"type": "integer", "pattern": "^a", "enum": [1], "format": "date", "maxLength": 1}}
    }

    errors = compile_schema(schema).find_errors({"card": "4111-1111"})

    assert {error["code"] for error in errors} == {"type", "pattern", "enum", "format", "max_length"}
    assert "4111" not in json.dumps(errors)


def test_names_in_paths_are_escaped_as_json_pointers() -> None:
    (error,) = compile_schema({"properties": {"a/b~c": {"type": "null"}}}).find_errors({"a/b~c": 1})

    assert (error["path"], error["schemaPath"]) == ("/a~1b~0c", "#/properties/a~1b~0c/type")


def test_at_most_20_errors_are_told() -> None:
    assert len(compile_schema({"required": [str(number) for number in range(50)]}).find_errors({})) == 20


def test_neither_the_schema_nor_the_value_is_changed() -> None:
    schema = {"properties": {"a": {"default": 1}, "b": {"contentEncoding": "base64"}}, "items": [{"default": 1}]}
    before = orjson.dumps(schema)
    values: list[Any] = [{"b": "YQ=="}, []]

    check_schema(schema)
    assert [compile_schema(schema).find_errors(value) for value in values] == [[], []]

    assert values == [{"b": "YQ=="}, []]
    assert orjson.dumps(schema) == before


def test_a_schema_may_refer_to_itself_where_it_goes_deeper() -> None:
    schema = {"required": ["name"], "properties": {"children": {"items": {"$ref": "#"}}}}
    check_schema(schema)

    (error,) = compile_schema(schema).find_errors({"name": 1, "children": [{"name": 1, "children": [{}]}]})

    assert error["code"] == "required"
    assert error["path"].startswith("/children/0/children/0")


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, ["1", "1.0", "-0.0", "1e3"], ["1.5", "true", '"1"', "null"]),
        ({"type": "number"}, ["1", "1.5"], ["true"]),
        ({"type": "boolean"}, ["true"], ["1", "0"]),
        ({"const": 1}, ["1", "1.0"], ["true"]),
        ({"const": True}, ["true"], ["1", "1.0"]),
        ({"enum": [0, "a"]}, ["0", "0.0", '"a"'], ["false", '"0"']),
        ({"const": [False]}, ["[false]"], ["[0]"]),
        ({"const": {"a": 1}}, ['{"a": 1.0}'], ['{"a": true}', '{"a": 1, "b": 2}']),
        ({"uniqueItems": True}, ["[1, true]", "[0, false]", "[[1], [true]]"], ["[1, 1.0]", '[{"a": [1]}, {"a": [1]}]']),
        ({"multipleOf": 0.01}, ["19.01", "1"], ["0.005"]),
        ({"multipleOf": 3}, ["9", "9.0"], ["10", "9.5"]),
        ({"multipleOf": 0.5}, ["1e308", "-1.5"], ["0.25"]),
        ({"multipleOf": 3.5}, ["7", "7e30"], ["1e30", "1e300"]),
        ({"multipleOf": 5e-324}, ["1.7976931348623157e308"], []),
        ({"contentMediaType": "application/json"}, ['"[1]"', "1"], ['"[1"', '"NaN"']),
        ({"contentEncoding": "base64"}, ['"YQ=="', '""'], ['"YQ"', '"Y Q=="']),
        ({"pattern": "^a$"}, ['"a"', "1"], ['"a\\n"', '"ba"']),
        ({"pattern": "^\\d+$"}, ['"12"'], ['"\\u0661"']),
        ({"pattern": "b"}, ['"abc"'], ['"ac"']),
        ({"minLength": 2, "maxLength": 2}, ['"\\ud83d\\ude00b"'], ['"\\ud83d\\ude00"']),
        ({"format": "date-time"}, ['"2025-12-24T12:00:00Z"'], ['"2025-12-24"', '"2025-13-24T12:00:00Z"']),
        ({"format": "email"}, ['"an@example.org"'], ['"an"', '"an@"', '"a b@example.org"']),
        ({"format": "uuid"}, ['"0123abcd-0000-7000-8000-000000000000"'], ['"x"']),
        (
            {"patternProperties": {"^n_": {"type": "number"}}, "additionalProperties": False},
            ['{"n_a": 1}'],
            ['{"b": 1}'],
        ),
        (
            {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": False},
            ['{"a": 1, "b": 1}'],
            ['{"a": 1}', "{}"],
        ),
        ({"items": [{"type": "string"}], "additionalItems": {"type": "null"}}, ['["a", null]', "[]"], ['["a", "b"]']),
        ({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, ['{"a": 1, "b": 1}'], ['{"a": 1}', '{"c": 1}']),
        (
            {"contentEncoding": "base64", "contentMediaType": "application/json"},
            ['"e30="', "1"],
            ['"%%%"', '"e30"', '"e30=="', '"ezo="', '"{}"'],
        ),
        (True, ["1"], []),
        (False, [], ["1", "null"]),
        ({}, ["[]"], []),
    ],
)
def test_draft_07(schema: Any, good: list[str], bad: list[str]) -> None:
    check_schema(schema)
    validator = compile_schema(schema)

    assert [text for text in good if validator.find_errors(orjson.loads(text))] == []
    assert [text for text in bad if not validator.find_errors(orjson.loads(text))] == []


_NAMES = ["a", "b", "a-b", "ab", "missing", "keys", "x", "item", "0", "{}", '"', "\n", "\\", ""]
_PATTERNS = ["^a", "b$", "^[a-z]+$", "\\d", "^x?y*"]
_TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]


class _Maker:
    """Makes values, and schemas that have a chance to be met by them; always the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def value(self, depth: int = 0) -> Any:
        scalars = [None, True, False, 0, 1, 2, -1, 10, 0.0, 1.0, 1.5, *_NAMES, "abc", "é", "12"]
        kind = self._random.randrange(10)
        if kind < 6 or depth > 3:
            return self._random.choice(scalars)
        if kind < 8:
            return [self.value(depth + 1) for _ in range(self._random.randrange(4))]
        return {self._random.choice(_NAMES): self.value(depth + 1) for _ in range(self._random.randrange(5))}

    def document(self) -> dict[str, Any]:
        return {"allOf": [self.schema()], "definitions": {"d": self.schema(3), "D": self.schema(3)}}

    def schema(self, depth: int = 0) -> Any:
        pick = self._random.random()
        if pick < 0.05:
            return pick < 0.03
        if pick < 0.12:
            return {"$ref": self._random.choice(["#/definitions/d", "#/definitions/D"])}
        makers = [self._of_scalar, self._of_size, self._of_parts, self._of_choice]
        made: dict[str, Any] = {}
        for _ in range(self._random.randrange(1, 4)):
            made.update(self._random.choice(makers if depth < 4 else makers[:2])(depth + 1))
        return made

    def _names(self) -> list[str]:
        return self._random.sample(_NAMES, self._random.randrange(3))

    def _of_scalar(self, _: int) -> dict[str, Any]:
        bound = self._random.choice(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
        return self._random.choice(
            [
                {"type": self._random.sample(_TYPES, self._random.randrange(1, 4))},
                {"type": self._random.choice(_TYPES)},
                {"const": self.value(2)},
                {"enum": ["a", self._random.choice([None, True, 1, 0.0]), [self.value(3)]]},
                {"multipleOf": self._random.choice([1, 2, 0.5])},
                {bound: self._random.choice([0, 1, 1.5])},
                {"pattern": self._random.choice(_PATTERNS)},
            ]
        )

    def _of_size(self, _: int) -> dict[str, Any]:
        kind = self._random.choice(["Length", "Items", "Properties"])
        return self._random.choice(
            [
                {f"min{kind}": self._random.randrange(3)},
                {f"max{kind}": self._random.randrange(3)},
                {"uniqueItems": True},
                {"required": self._names()},
            ]
        )

    def _of_parts(self, depth: int) -> dict[str, Any]:
        part, other = self.schema(depth), self.schema(depth)
        name, pattern = self._random.choice(_NAMES), self._random.choice(_PATTERNS)
        return self._random.choice(
            [
                {"properties": {name: part, self._random.choice(_NAMES): other}},
                {"properties": {name: part}, "additionalProperties": other},
                {"patternProperties": {pattern: part}, "additionalProperties": other},
                {"propertyNames": part},
                {"items": [part], "additionalItems": other},
                {"items": [part, other]},
                {"contains": part},
            ]
        )

    def _of_choice(self, depth: int) -> dict[str, Any]:
        parts = [self.schema(depth) for _ in range(2)]
        keyword = self._random.choice(["allOf", "anyOf", "oneOf"])
        return self._random.choice(
            [
                {keyword: parts},
                {"not": parts[0]},
                {"if": self.schema(depth), "then": parts[0], "else": parts[1]},
                {"if": self.schema(depth), "then": parts[0]},
                {"dependencies": {self._random.choice(_NAMES): parts[0], self._random.choice(_NAMES): self._names()}},
            ]
        )


@pytest.mark.parametrize("seed", range(10))
def test_another_validator_says_the_same(seed: int) -> None:
    maker = _Maker(seed)
    asked = 0
    for _ in range(40):
        schema = maker.document()
        try:
            check_schema(schema)
        except Malformed:
            continue  # references that loop, mostly
        validator, other = compile_schema(schema), jsonschema.Draft7Validator(schema)
        for value in [maker.value() for _ in range(10)]:
            errors = validator.find_errors(value)
            assert (errors == []) == other.is_valid(value), (schema, value)
            assert not {"schema_faulty", "schema"}.intersection(error["code"] for error in errors), (schema, value)
            asked += 1
    assert asked > 100
