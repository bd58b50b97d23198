"""What a draft-07 schema may say here, beyond what its meta-schema asks.

A schema is written by a person who means well, and read by code that must neither hang nor believe something that is
then ignored: hence limits on size, references that stay inside, patterns that cannot be made slow, and no keyword or
format that nothing would check.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

DRAFT_07 = "http://json-schema.org/draft-07/schema#"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_NODES = 500
MAX_PATTERN = 256

_ONE = frozenset({
    "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
})  # fmt: skip
_LISTS = frozenset({"allOf", "anyOf", "oneOf"})
_MAPS = frozenset({"properties", "patternProperties", "definitions", "$defs", "dependencies"})
ASSERTIONS = (_ONE | _LISTS | _MAPS | {
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "required",
    "format",
}) - {"definitions", "$defs"}  # fmt: skip
ANNOTATIONS = frozenset({
    "title", "description", "default", "examples", "$comment", "readOnly", "writeOnly", "contentMediaType",
    "contentEncoding", "definitions", "$defs", "$schema", "$id", "$ref",
})  # fmt: skip


class Fault(NamedTuple):
    """What is wrong, and where in the schema."""

    pointer: str
    message: str


class Location(NamedTuple):
    """A place in a value and the place in the schema that speaks about it, both as JSON pointers."""

    value: str
    schema: str

    def within(self, *steps: str | int) -> "Location":
        """Further down in the schema."""
        return self._replace(schema=self.schema + pointer(*steps))

    def below(self, step: str | int) -> "Location":
        """Further down in the value."""
        return self._replace(value=self.value + pointer(step))


def pointer(*steps: str | int) -> str:
    """The JSON pointer that these steps make."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def resolve(root: Any, reference: str) -> Any:
    """What a `#/…` reference names. Raises LookupError or ValueError if that is nothing in this schema."""
    if not reference.startswith("#") or (len(reference) > 1 and reference[1] != "/"):
        raise ValueError("a reference must be # or start with #/")
    found = root
    for step in unquote(reference[1:]).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        found = found[int(step)] if isinstance(found, list) else found[step]
    return found


def python_pattern(text: str) -> str:
    """A pattern as JSON Schema means it: `$` is the very end, `\\d` and `\\w` are ASCII."""
    made, is_escaped, in_class = ["(?a)"], False, False
    for character in text:
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == "$":
            character = "\\$" if in_class else "\\Z"
        elif character in "[]":
            in_class = character == "["
        made.append(character)
    return "".join(made)


def meaning(keyword: str, rule: Any) -> str:
    """What a keyword asks for, in words. Never what the value was: that may be personal."""
    if keyword == "type":
        return f"must be {rule if isinstance(rule, str) else ' or '.join(rule)}"
    shown = orjson.dumps(rule).decode()
    return f"does not meet {keyword} {shown if len(shown) <= 120 else shown[:119] + '…'}"


def too_large(schema: Any) -> list[Fault]:
    """Limits that must hold before anything looks deeper."""
    if not isinstance(schema, dict | bool):
        return [Fault("", "a schema must be an object, true or false")]
    waiting: list[tuple[Any, int]] = [(schema, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return [Fault("", f"the schema is nested deeper than {MAX_DEPTH} levels")]
        if isinstance(node, dict | list):
            waiting.extend((item, depth + 1) for item in (node.values() if isinstance(node, dict) else node))
    try:
        size = len(orjson.dumps(schema))
    except TypeError as error:
        return [Fault("", f"the schema is not JSON: {error}")]
    return [Fault("", f"the schema is {size} bytes, the limit is {MAX_BYTES}")] if size > MAX_BYTES else []


def forbidden(schema: Any) -> list[Fault]:
    """Everything that the meta-schema allows and this service does not."""
    found: list[Fault] = []
    nodes = list(subschemas(schema, ""))
    if len(nodes) > MAX_NODES:
        return [Fault("", f"the schema has {len(nodes)} sub-schemas, the limit is {MAX_NODES}")]
    for at, node in nodes:
        if isinstance(node, dict):
            found.extend(_forbidden_in(schema, at, node))
    return found


def subschemas(schema: Any, at: str) -> Iterator[tuple[str, Any]]:
    """A schema and all schemas in it, with where they are."""
    yield at, schema
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            for number, item in enumerate(value):
                yield from subschemas(item, at + pointer(keyword, number))
        elif keyword in _MAPS:
            for name, item in value.items():
                if not isinstance(item, list):
                    yield from subschemas(item, at + pointer(keyword, name))
        elif keyword in _ONE:
            yield from subschemas(value, at + pointer(keyword))


def _forbidden_in(root: Any, at: str, node: dict[str, Any]) -> Iterator[Fault]:
    for keyword in node:
        if keyword not in ASSERTIONS | ANNOTATIONS and not keyword.startswith("x-"):
            yield Fault(at + pointer(keyword), f"{keyword!r} is not a keyword of draft-07 and would be ignored")
    if at and ("$id" in node or "id" in node):
        yield Fault(at + "/$id", "only the whole schema may have an id")
    if "$ref" in node:
        try:
            resolve(root, node["$ref"])
        except (LookupError, ValueError, TypeError):
            yield Fault(at + "/$ref", "a reference must name a part of this same schema, like #/definitions/money")


_SCHEMA: dict[str, Any] = {"$ref": "#"}
_SCHEMA_ARRAY = {"type": "array", "minItems": 1, "items": _SCHEMA}
_SCHEMA_MAP = {"type": "object", "additionalProperties": _SCHEMA}
_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_NAMES = {"type": "array", "items": _STRING, "uniqueItems": True}
_TYPE = {"enum": ["array", "boolean", "integer", "null", "number", "object", "string"]}
_BY_KIND: list[tuple[str, dict[str, Any]]] = [
    ("$id $ref $comment title description contentMediaType contentEncoding pattern format", _STRING),
    ("maximum minimum exclusiveMaximum exclusiveMinimum", _NUMBER),
    ("maxLength minLength maxItems minItems maxProperties minProperties", _COUNT),
    ("uniqueItems readOnly writeOnly", _FLAG),
    ("additionalItems additionalProperties contains propertyNames if then else not", _SCHEMA),
    ("allOf anyOf oneOf", _SCHEMA_ARRAY),
    ("definitions $defs properties patternProperties", _SCHEMA_MAP),
]

META_SCHEMA: dict[str, Any] = {
    "type": ["object", "boolean"],
    "properties": {
        **{keyword: kind for keywords, kind in _BY_KIND for keyword in keywords.split()},
        "$schema": {"enum": [DRAFT_07, DRAFT_07.removesuffix("#")]},
        "multipleOf": {"type": "number", "exclusiveMinimum": 0},
        "items": {"if": {"type": "array"}, "then": _SCHEMA_ARRAY, "else": _SCHEMA},
        "required": _NAMES,
        "dependencies": {
            "type": "object",
            "additionalProperties": {"if": {"type": "array"}, "then": _NAMES, "else": _SCHEMA},
        },
        "enum": {"type": "array", "minItems": 1},
        "examples": {"type": "array"},
        "type": {
            "if": {"type": "array"},
            "then": {"type": "array", "items": _TYPE, "minItems": 1, "uniqueItems": True},
            "else": _TYPE,
        },
    },
}
