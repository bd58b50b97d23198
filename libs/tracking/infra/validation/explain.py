"""Collects the validation errors of a value that a compiled schema has rejected: every missing or wrong field."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from tracking.infra.validation.compiler import CompiledSchema, SchemaViolation
from tracking.infra.validation.patterns import compile_pattern
from tracking.infra.validation.schema_tree import SchemaNode, join_pointer

MAX_ERRORS = 20
_MAX_VALUE_CHARACTERS = 100
_MAX_PATH_CHARACTERS = 500
_MAX_VISITS = 10_000
_Fault = dict[str, str]
# The place of a part: its parent's place and its name or position; () is the whole value. Most places are never told.
_Place = tuple[()] | tuple["_Place", str | int]

_MESSAGES: dict[str, Callable[[Any], str]] = {
    "type": lambda value: f"must be of type {' or '.join(value) if isinstance(value, list) else value}",
    "enum": lambda value: f"must be one of {_format_value(value)}",
    "const": lambda value: f"must be {_format_value(value)}",
    "minLength": lambda value: f"must have at least {value} characters",
    "maxLength": lambda value: f"must have at most {value} characters",
    "pattern": lambda value: f"must match the pattern {_format_value(value)}",
    "format": lambda value: f"must be in the format {value}",
    "contentEncoding": lambda value: f"must be encoded as {value}",
    "contentMediaType": lambda value: f"must hold {value}",
    "minimum": lambda value: f"must be at least {value}",
    "maximum": lambda value: f"must be at most {value}",
    "exclusiveMinimum": lambda value: f"must be more than {value}",
    "exclusiveMaximum": lambda value: f"must be less than {value}",
    "multipleOf": lambda value: f"must be a multiple of {value}",
    "minItems": lambda value: f"must have at least {value} items",
    "maxItems": lambda value: f"must have at most {value} items",
    "uniqueItems": lambda _: "must not have the same item twice",
    "contains": lambda _: "must have an item that meets the schema of contains",
    "minProperties": lambda value: f"must have at least {value} properties",
    "maxProperties": lambda value: f"must have at most {value} properties",
    "propertyNames": lambda _: "has a property whose name does not meet the schema of propertyNames",
    "anyOf": lambda _: "must meet at least one of the schemas of anyOf",
    "oneOf": lambda _: "must meet exactly one of the schemas of oneOf",
    "not": lambda _: "must not meet the schema of not",
}


def make_validation_error(code: str, path: str, schema_path: str, message: str) -> _Fault:
    """Return one entry of validationErrors; `code` is the keyword in snake_case."""
    return {"code": code, "path": _cut(path), "schemaPath": _cut(schema_path), "message": message}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_PATH_CHARACTERS else text[:_MAX_PATH_CHARACTERS] + "…"


def _pointer(place: _Place) -> str:
    parts: list[str | int] = []
    while place:
        place, part = place
        parts.append(part)
    return join_pointer("", *reversed(parts))


def collect_validation_errors(root: SchemaNode, program: CompiledSchema, value: Any) -> list[_Fault]:
    """Return at most MAX_ERRORS, for a large value of its first parts only. Messages never quote the value."""
    teller = _ErrorCollector(program)
    teller.node(root, value, (), "")
    return teller.found[:MAX_ERRORS]


class _ErrorCollector:
    def __init__(self, program: CompiledSchema) -> None:
        self._decide = program.keyword_checks
        self._visits = 0
        self.found: list[_Fault] = []

    def node(self, node: SchemaNode, value: Any, place: _Place, keyword: str) -> None:
        """Visit a node. `keyword` led to it, and is the code of the error if the node's schema is `false`."""
        self._visits += 1
        if self._visits > _MAX_VISITS or len(self.found) >= MAX_ERRORS:
            return
        if node.schema is False:
            self._tell(keyword or "false", place, node.pointer, "is not allowed here")
            return
        if node.target is not None:
            self.node(node.target, value, place, keyword)
            return
        for name, decide in self._decide.get(node.number, {}).items():
            if name != "if" and not _is_good(decide, value):
                message = _MESSAGES[name](node.keywords()[name])
                self._tell(name, place, join_pointer(node.pointer, name), message)
        self._in_place(node, value, place)
        if isinstance(value, dict):
            self._object(node, value, place)
        elif isinstance(value, list):
            self._array(node, value, place)

    def _in_place(self, node: SchemaNode, value: Any, place: _Place) -> None:
        for child in node.many.get("allOf", ()):
            self.node(child, value, place, "allOf")
        if "if" in node.one:
            branch = "then" if _is_good(self._decide[node.number]["if"], value) else "else"
            if branch in node.one:
                self.node(node.one[branch], value, place, branch)

    def _object(self, node: SchemaNode, value: dict[str, Any], place: _Place) -> None:
        for name in node.keywords().get("required", ()):
            if name not in value:
                self._tell("required", (place, name), join_pointer(node.pointer, "required"), "is required")
        for name, wanted in node.keywords().get("dependencies", {}).items():
            if name in value:
                self._dependency(node, name, wanted, value, place)
        properties = node.named.get("properties", {})
        patterns = [(compile_pattern(text), child) for text, child in node.named.get("patternProperties", {}).items()]
        rest = node.one.get("additionalProperties")
        if not properties and not patterns and rest is None:
            return
        for name, item in value.items():
            inner = (place, name)
            matched = [child for pattern, child in patterns if pattern.search(name)]
            if name in properties:
                self.node(properties[name], item, inner, "properties")
            for child in matched:
                self.node(child, item, inner, "patternProperties")
            if rest is not None and name not in properties and not matched:
                self.node(rest, item, inner, "additionalProperties")

    def _dependency(self, node: SchemaNode, name: str, wanted: Any, value: dict[str, Any], place: _Place) -> None:
        if not isinstance(wanted, list):
            self.node(node.named["dependencies"][name], value, place, "dependencies")
            return
        for other in wanted:
            if other not in value:
                message = f"is required beside {_format_value(name)}"
                self._tell("dependencies", (place, other), join_pointer(node.pointer, "dependencies", name), message)

    def _array(self, node: SchemaNode, value: list[Any], place: _Place) -> None:
        every = node.one.get("items")
        first = node.many.get("items", [])
        rest = node.one.get("additionalItems") if first else None
        for position, item in enumerate(value):
            child = every or (first[position] if position < len(first) else rest)
            if child is None or self._visits > _MAX_VISITS:
                return
            self.node(child, item, (place, position), "items" if position < len(first) or every else "additionalItems")

    def _tell(self, keyword: str, place: _Place, schema_path: str, message: str) -> None:
        self.found.append(make_validation_error(_snake(keyword), _pointer(place), schema_path, message))


def _is_good(decide: Callable[[Any], object], value: Any) -> bool:
    try:
        decide(value)
    except SchemaViolation:
        return False
    return True


def _snake(keyword: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), keyword)


def _format_value(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _MAX_VALUE_CHARACTERS else text[:_MAX_VALUE_CHARACTERS] + "…"
