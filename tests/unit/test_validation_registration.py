"""The conditions that a schema must meet to be registered."""

from typing import Any

import pytest

from tracking.domain.errors import Malformed
from tracking.infra.validation import check_schema, compile_schema


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    """Each definition names the next one twice: small, and 2**levels steps to decide."""
    names: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(levels)}
    return {"definitions": names | {f"d{levels}": {"type": "string"}}, "$ref": "#/definitions/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$schema": "http://json-schema.org/draft-07/schema", "$id": "https://example.com/a", "x-owner": ["me"]},
        {"$defs": {"a": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/a", "description": "an a"}}},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}, "unevaluatedProperties": {}}},
        {"const": {"$ref": "http://example.com/", "$id": "file:///etc/passwd", "unknown": 1}},
        {"default": {"$ref": 5}, "examples": [{"$ref": "#/nowhere"}]},
        {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"required": ["a"], "additionalProperties": {}},
        nested(32),
    ],
)  # fmt: skip
def test_a_good_schema_is_taken_and_not_changed(schema: Any) -> None:
    before = repr(schema)

    check_schema(schema)

    assert repr(schema) == before


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ([], "#"),
        (None, "#"),
        ("{}", "#"),
        ({"type": "objekt"}, "#/type"),
        ({"type": [{}]}, "#/type/0"),
        ({"type": [["string"]]}, "#/type/0"),
        ({"type": {"string": 1}}, "#/type"),
        ({"type": []}, "#/type"),
        ({"required": "a"}, "#/required"),
        ({"required": ["a", "a"]}, "#/required"),
        ({"minLength": True}, "#/minLength"),
        ({"minLength": -1}, "#/minLength"),
        ({"minimum": float("nan")}, "#"),
        ({"maximum": float("inf")}, "#"),
        ({"enum": [object()]}, "#"),
        ({"multipleOf": 0}, "#/multipleOf"),
        ({"multipleOf": -2}, "#/multipleOf"),
        ({"enum": []}, "#/enum"),
        ({"properties": {"a": 5}}, "#/properties/a"),
        ({"allOf": []}, "#/allOf"),
        ({"dependencies": {"a": "b"}}, "#/dependencies/a"),
        ({"items": {"type": "a"}}, "#/items/type"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "#/$schema"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "#/$schema"),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "#/properties/a/$schema"),
        ({"properties": {"a": {"$id": "other.json"}}}, "#/properties/a/$id"),
        ({"$id": "#anchor"}, "#/$id"),
        ({"id": "http://example.com"}, "#/id"),
    ],
)
def test_what_is_no_draft_07_schema_is_rejected(schema: Any, place: str) -> None:
    with pytest.raises(Malformed) as rejection:
        check_schema(schema)

    assert rejection.value.code == "invalid_schema"
    assert [detail["field"] for detail in rejection.value.details] == [place]


@pytest.mark.parametrize(
    "keyword",
    ["$anchor", "$recursiveRef", "dependentRequired", "minContains", "prefixItems", "nullable", "requird"],
)
def test_a_keyword_that_would_be_ignored_is_rejected(keyword: str) -> None:
    with pytest.raises(Malformed, match="would be ignored"):
        check_schema({"properties": {"a": {keyword: True}}})


@pytest.mark.parametrize(
    "schema",
    [
        {"format": "colour"},
        {"contentEncoding": "quoted-printable"},
        {"contentMediaType": "image/png"},
        {"then": {"type": "string"}},
        {"if": {"type": "string"}},
        {"items": {"type": "string"}, "additionalItems": False},
        {"properties": {"a": {"$ref": "#", "minLength": 3}}},
    ],
)
def test_what_would_have_no_effect_is_rejected(schema: Any) -> None:
    with pytest.raises(Malformed):
        check_schema(schema)


@pytest.mark.parametrize(
    "reference",
    [
        "http://example.com/schema.json",
        "https://example.com/schema.json#/a",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "data:application/json,{}",
        "//example.com/a",
        "other.json",
        "",
        "#anchor",
        "#/definitions/missing",
        "#/definitions",
        "#/definitions/a/type",
        "#/../definitions/a",
    ],
)
def test_only_references_to_schemas_in_the_same_document_are_taken(reference: str) -> None:
    schema = {"definitions": {"a": {"type": "string"}}, "properties": {"a": {"$ref": reference}}}

    with pytest.raises(Malformed) as rejection:
        check_schema(schema)

    assert rejection.value.details[0]["field"] == "#/properties/a/$ref"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"definitions": {"a": {"not": {"$ref": "#/definitions/b"}}, "b": {"anyOf": [{"$ref": "#/definitions/a"}]}}},
        {"dependencies": {"a": {"$ref": "#"}}},
        {"if": {"$ref": "#"}, "then": True},
    ],
)
def test_a_reference_that_comes_back_without_looking_deeper_is_rejected(schema: Any) -> None:
    with pytest.raises(Malformed, match="without end"):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        doubling(20),
        doubling(100),
        {"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]},
        {"patternProperties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
    ],
)
def test_references_that_multiply_are_rejected(schema: Any) -> None:
    with pytest.raises(Malformed, match="multiply"):
        check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "limit"),
    [
        (nested(33), "deeper than 32"),
        (nested(100), "deeper than 32"),
        (nested(100_000), "deeper than 32"),
        ({"description": "x" * 70_000}, "limit is 65536"),
        ({"description": "x" * 5_000_000}, "limit is 65536"),
        ({"properties": {f"p{n}": True for n in range(500)}}, "limit is 500"),
        ({"enum": list(range(1_001))}, "limit is 1000"),
        ({"const": [[[[[[1]]]]]]}, "deeper than 5"),
        ({"required": [f"{n}" for n in range(1_001)]}, "limit is 1000"),
        ({"dependencies": {"a": [f"{n}" for n in range(1_001)]}}, "limit is 1000"),
        (
            {"allOf": [{"required": [f"{n}"], "dependencies": {"a": ["b", f"c{n}"]}} for n in range(334)]},
            "limit is 1000",
        ),
        ({"pattern": "a" * 257}, "256"),
        ({"patternProperties": {"a" * 257: True}}, "256"),
    ],
)
def test_each_size_has_its_limit(schema: Any, limit: str) -> None:
    with pytest.raises(Malformed, match=limit):
        check_schema(schema)


def test_all_faults_of_a_schema_are_told_at_once_up_to_twenty() -> None:
    schema = {"properties": {f"p{n}": {"format": "colour", "unknown": 1} for n in range(30)}}

    with pytest.raises(Malformed) as rejection:
        check_schema(schema)

    assert len(rejection.value.details) == 20


def test_a_stored_schema_that_breaks_the_rules_flags_its_events_and_is_not_run() -> None:
    for schema in ({"$ref": "file:///etc/passwd"}, {"type": [{}]}, doubling(30), object()):
        [error] = compile_schema(schema).find_errors({"a": 1})
        assert error["code"] == "schema_faulty"
