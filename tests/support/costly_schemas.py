"""The most expensive schemas that registration accepts, each with the most expensive known event of 64 KiB."""

import itertools
from collections.abc import Iterator
from typing import Any

import orjson

EVENT_BYTES = 64 * 1024
# CPython gives -1 and -2 the same hash, so sets of such lists compare each with each
_COLLIDING = [list(signs) for signs in itertools.islice(itertools.product([-1, -2], repeat=11), 1_700)]
_TEXT = "a" * (EVENT_BYTES - 16)


def nested(levels: int, inner: Any) -> Any:
    """`inner` below so many properties `a`."""
    for _ in range(levels):
        inner = {"properties": {"a": inner}}
    return inner


def filled(piece: Any) -> list[Any]:
    """As many copies as 64 KiB hold."""
    return [piece] * ((EVENT_BYTES - 16) // (len(orjson.dumps(piece)) + 1))


def hostile() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """`(name, schema, properties)`; the schema is that of the property `v`, as properties are an object."""
    for name, schema, value in _pairs():
        yield name, {"properties": {"v": schema}}, {"v": value}


def _pairs() -> Iterator[tuple[str, Any, Any]]:
    numbers, objects, empty = filled(1), filled({}), filled([])
    keys = {f"k{n:x}": 1 for n in range(6_500)}
    yield "anyOf of 400", {"items": {"anyOf": [{"type": "string"}, {"type": "null"}] * 200}}, numbers
    yield "oneOf of 20", {"items": {"oneOf": [{"type": "string"}] * 20}}, numbers
    yield "oneOf of 2", {"items": {"oneOf": [{"type": "string"}, {"minimum": 5}]}}, numbers[:3_000]
    yield "not of not", {"items": {"not": {"not": {"type": "string"}}}}, numbers
    yield "if then else", {"items": {"if": {"type": "string"}, "then": False, "else": {"type": "null"}}}, numbers
    yield "enum of 900 numbers", {"items": {"enum": [*range(5, 900)]}}, numbers
    yield "enum of 900 texts", {"items": {"enum": [f"v{n}" for n in range(900)]}}, filled("v899")
    yield "enum of objects", {"items": {"enum": [{"a": [[n]]} for n in range(250)]}}, filled({"a": [[249]]})
    yield "required 400", {"items": {"required": [f"p{n}" for n in range(400)]}}, objects
    yield "properties 400", {"items": {"properties": {f"p{n}": True for n in range(400)}}}, objects
    yield "dependencies 400", {"items": {"dependencies": {f"p{n}": ["a"] for n in range(400)}}}, objects
    yield "patternProperties 200", {"patternProperties": {f"^k{n}": {"type": "integer"} for n in range(200)}}, keys
    yield "propertyNames", {"propertyNames": {"pattern": "^(k|x)+[0-9a-f]{1,4}$"}}, keys
    yield "propertyNames that fail", {"propertyNames": {"pattern": "^x"}}, keys
    yield "additionalProperties", {"properties": {}, "additionalProperties": {"type": "string"}}, keys
    yield "contains", {"contains": {"type": "string", "pattern": "^b"}}, numbers
    yield "contains of contains", {"items": {"contains": {"type": "string"}}}, empty
    yield "uniqueItems, colliding", {"uniqueItems": True}, _COLLIDING
    yield "uniqueItems twice", {"uniqueItems": True, "items": {"uniqueItems": True}}, _COLLIDING
    yield "uniqueItems of objects", {"uniqueItems": True}, [{"a": n} for n in range(6_000)]
    yield "multipleOf 0.01", {"items": {"multipleOf": 0.01}}, filled(19.011)
    yield "multipleOf of the extremes", {"items": {"multipleOf": 5e-324}}, filled(1.7976931348623157e308)
    yield "200 patterns", {"allOf": [{"pattern": f"x{n}+y"} for n in range(200)]}, _TEXT
    yield "one pattern of 1000 instructions", {"pattern": "(a{0,100}){4}b"}, _TEXT
    yield "20 patterns of alternatives", {"allOf": [{"pattern": f"(a|b|ab)*c{n}"} for n in range(20)]}, _TEXT
    yield "pattern on many texts", {"items": {"pattern": "^a?b?c?$"}}, filled("d")
    for name in ("date-time", "email", "hostname", "ipv6", "json-pointer", "regex", "uri", "uri-reference"):
        yield f"format {name}", {"items": {"format": name}}, filled("a.b/c:d")
        yield f"format {name}, long", {"allOf": [{"format": name}] * 100}, _TEXT
    yield "contentMediaType", {"allOf": [{"contentMediaType": "application/json"}] * 100}, "[" + "1," * 32_000 + "1]"
    yield "contentEncoding", {"allOf": [{"contentEncoding": "base64"}] * 100}, _TEXT[: 4 * 16_000]
    yield "itself at every level", {"items": {"$ref": "#/properties/v"}, "type": "array"}, empty
    yield (
        "itself as a tree",
        {"properties": {"a": {"$ref": "#/properties/v"}, "b": {"$ref": "#/properties/v"}}},
        _tree(),
    )
    yield "30 levels", nested(29, {"type": "integer"}), nested_value(60)
    yield (
        "wide objects",
        {"items": {"properties": {f"p{n}": {"type": "string"} for n in range(60)}}},
        filled({f"p{n}": 1 for n in range(60)}),
    )
    yield "everything fails, many faults", {"items": {"type": "string", "minLength": 3, "enum": ["a"]}}, numbers
    yield "faults far inside", {"items": {"items": {"items": {"type": "string"}}}}, filled([[1, 2], [3]])
    yield "300 rules on one value", {"allOf": [{"not": {"const": n}} for n in range(245)]}, numbers
    yield "const of a large array", {"const": [*range(990)]}, [*range(989)]
    yield "const of objects", {"const": {f"k{n}": {"a": [n]} for n in range(300)}}, {}
    yield "enum of arrays of texts", {"enum": [["é" * 60, n] for n in range(330)]}, ["é" * 60, 330]
    yield "1 000 required", {"required": [f"{n:x}" for n in range(1_000)]}, {f"{n:x}": 1 for n in range(1, 6_000)}
    yield "1 000 dependencies", {"dependencies": {"a": [f"{n:x}" for n in range(1_000)]}}, {"a": 1}
    yield "long names", {"properties": {f"{n}'{{}}\"\\\n" + "x" * 90: {"type": "null"} for n in range(490)}}, keys
    yield "deep and wide", nested(25, {"properties": {f"p{n}": {"const": [n]} for n in range(200)}}), nested_value(60)
    yield (
        "all kinds of one value",
        {"allOf": [{"type": ["string", "null", "array"], "minLength": n} for n in range(480)]},
        1,
    )
    yield "items const", {"items": {"const": [*range(90)]}}, filled([*range(89)])


def nested_value(levels: int) -> Any:
    """`{"a": {"a": …}}`."""
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def _tree() -> Any:
    value: Any = 1
    for _ in range(11):
        value = {"a": value, "b": value}
    return value
