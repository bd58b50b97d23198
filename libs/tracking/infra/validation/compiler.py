"""Compiles a schema tree by fastjsonschema; no other module handles its generated code.

fastjsonschema (2.22.3) writes a schema's own text into Python source and then runs it. It is therefore not given the
author's schema but one that is written anew from the tree, in which
- references have generated names, so that none can collide (it lower-cases them) or lead anywhere else;
- patterns and formats are functions of this package (`formats=`), so that no expression reaches Python's `re`;
- patterns of patternProperties are generated names, whose compiled patterns are put in afterwards;
- annotations are left out;
- multipleOf, enum and const are functions of this module that replace empty definitions: its own multipleOf rounds to
  28 digits, and Python's compiler holds up all other threads for as long as it reads a thousand values;
- contentEncoding and contentMediaType are formats of this package, as it would decode the value in place;
- deep nesting is broken into functions, as Python allows 20 nested blocks in one, and wide ones too: Python's compiler
  lets no other thread run, so functions are kept small and compiled one at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import fastjsonschema

from tracking.infra.validation.formats import FORMATS, is_base64, is_encoded_json, is_json
from tracking.infra.validation.patterns import Pattern, compile_pattern
from tracking.infra.validation.schema_tree import CHILD_NAMED, CHILD_ONE, IN_PLACE_MANY, IN_PLACE_ONE, SchemaNode

# The quotient of the largest double and the smallest has 632 digits.
_EXACT = Context(prec=700, traps=[])
SchemaViolation = fastjsonschema.JsonSchemaValueException
DRAFT = "http://json-schema.org/draft-07/schema#"
_LEVELS_IN_A_FUNCTION = 5
_NODES_IN_A_FUNCTION = 25
_ROOT = "validate("  # the function of the whole document, which only calls all the others, so that they are written
_PLAIN = (
    "type", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems",
    "maxItems", "uniqueItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
# Written in another way than they stand, so each as a schema beside the rest.
_BESIDE = ("const", "enum", "multipleOf", "pattern", "format", "contentEncoding", "contentMediaType")
# Decided by one call each when an event's faults are told; the other keywords are followed into their parts.
SINGLE_CHECK_KEYWORDS = (
    "type", "enum", "const", "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "contains", "minProperties",
    "maxProperties", "propertyNames", "anyOf", "oneOf", "not", "if", "contentEncoding", "contentMediaType",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """`meets(value)` and `decide[number of the node][keyword](value)` raise ValueFault unless the value is good."""

    check: Callable[[Any], object]
    keyword_checks: Mapping[int, Mapping[str, Callable[[Any], object]]]


def compile_tree(nodes: list[SchemaNode]) -> CompiledSchema:
    """Compile a schema. Raises the errors of fastjsonschema and Python; no schema that keeps the rules is known to."""
    writer = _Writer()
    entry = writer.function(nodes[0])
    names = {
        node.number: {
            keyword: writer.keyword_function(node, keyword) for keyword in SINGLE_CHECK_KEYWORDS if keyword in found
        }
        for node in _followed(nodes[0])
        if node.target is None and (found := node.keywords())
    }
    functions = writer.compile()
    return CompiledSchema(
        functions[entry],
        {number: {keyword: functions[name] for keyword, name in made.items()} for number, made in names.items()},
    )


def _followed(root: SchemaNode) -> list[SchemaNode]:
    """Return the nodes that can be visited while the errors of a value are collected."""
    found = {root.number: root}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        one = [
            node.one[k] for k in ("then", "else", "additionalProperties", "additionalItems", "items") if k in node.one
        ]
        many = [child for k in ("allOf", "items") for child in node.many.get(k, ())]
        named = [child for k in (*CHILD_NAMED, "dependencies") for child in node.named.get(k, {}).values()]
        for child in (node.target, *one, *many, *named):
            if child is not None and child.number not in found:
                found[child.number] = child
                waiting.append(child)
    return list(found.values())


class _Writer:
    """Writes definitions `n7` (a node) and `k7x2` (one keyword of a node) until nothing refers to a missing one."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._unwritten: dict[str, SchemaNode] = {}
        self._formats: dict[str, Callable[[Any], Any]] = {}
        self._names: dict[str, Pattern] = {}
        self._own: dict[str, Callable[..., None]] = {}
        self._nodes_in_function = 0

    def function(self, node: SchemaNode) -> str:
        """Return the name of the node's definition."""
        name = f"n{node.number}"
        if name not in self._definitions:
            self._unwritten.setdefault(name, node)
        return name

    def keyword_function(self, node: SchemaNode, keyword: str) -> str:
        """Return the name of a definition with one keyword of the node."""
        name = f"k{node.number}x{SINGLE_CHECK_KEYWORDS.index(keyword)}"
        self._nodes_in_function = 0
        self._definitions[name] = self._only(node, keyword, 0)
        return name

    def compile(self) -> dict[str, Callable[[Any], object]]:
        """Return the function of each definition."""
        while self._unwritten:
            name, node = self._unwritten.popitem()
            self._definitions[name] = True  # it may refer to itself
            self._nodes_in_function = 0
            self._definitions[name] = self._write(node, 0)
        source = fastjsonschema.compile_to_code(
            {
                "$schema": DRAFT,
                "definitions": self._definitions,
                "allOf": [_reference(name) for name in self._definitions],
            },
            handlers=dict.fromkeys(("", "http", "https", "ftp", "file", "data"), _reject_reference),
            formats=self._formats,
            use_default=False,
            detailed_exceptions=False,
        )
        space: dict[str, Any] = {}
        # it writes line breaks inside a line as escapes, so only a function starts a line with def
        imports, *functions = source.split("\ndef ")
        for piece in (imports, *(f"def {function}" for function in functions if not function.startswith(_ROOT))):
            exec(piece, space)  # noqa: S102
        space["REGEX_PATTERNS"] = self._names
        space.update({f"validate___definitions_{name}": function for name, function in self._own.items()})
        return {name: _bind(space[f"validate___definitions_{name}"], self._formats) for name in self._definitions}

    def _inner(self, node: SchemaNode, level: int) -> Any:
        if isinstance(node.schema, bool):
            return node.schema
        if node.target is not None:
            return _reference(self.function(node.target))
        self._nodes_in_function += 1
        if level >= _LEVELS_IN_A_FUNCTION or self._nodes_in_function > _NODES_IN_A_FUNCTION:
            return _reference(self.function(node))
        return self._write(node, level)

    def _write(self, node: SchemaNode, level: int) -> Any:
        if isinstance(node.schema, bool):
            return node.schema
        if node.target is not None:
            return _reference(self.function(node.target))
        written: dict[str, Any] = {key: node.schema[key] for key in _PLAIN if key in node.schema}
        beside = [self._beside(node, key) for key in _BESIDE if key in node.schema]
        for key in (*IN_PLACE_ONE, *CHILD_ONE):
            if key in node.one:
                written[key] = self._inner(node.one[key], level + 1)
        self._write_parts(node, written, level + 1)
        if written.get("additionalProperties") is False and "required" in written:
            # it refuses to compile a required property that is not allowed; such a schema is only unsatisfiable
            beside.append({"required": written.pop("required")})
        if beside:
            written["allOf"] = [*written.get("allOf", ()), *beside]
        return _without_effectless(written)

    def _write_parts(self, node: SchemaNode, written: dict[str, Any], level: int) -> None:
        for key in IN_PLACE_MANY:
            if key in node.many:
                written[key] = [self._inner(child, level) for child in node.many[key]]
        if "items" in node.one:
            written["items"] = self._inner(node.one["items"], level)
        elif "items" in node.many:
            written["items"] = [self._inner(child, level) for child in node.many["items"]]
        if "properties" in node.named:
            written["properties"] = {
                name: self._inner(child, level) for name, child in node.named["properties"].items()
            }
        if "patternProperties" in node.named:
            written["patternProperties"] = {
                self._name_of(pattern): self._inner(child, level)
                for pattern, child in node.named["patternProperties"].items()
            }
        if "dependencies" in node.keywords():
            schemas = node.named["dependencies"]
            written["dependencies"] = {
                name: self._inner(schemas[name], level) if name in schemas else names
                for name, names in node.keywords()["dependencies"].items()
            }

    def _only(self, node: SchemaNode, keyword: str, level: int) -> dict[str, Any]:
        """Write the node with this keyword alone."""
        if keyword in _BESIDE:
            return self._beside(node, keyword)
        if keyword == "if":
            return {"if": self._inner(node.one["if"], level + 1), "else": False}
        if keyword in node.one:
            return {keyword: self._inner(node.one[keyword], level + 1)}
        if keyword in node.many:
            return {keyword: [self._inner(child, level + 1) for child in node.many[keyword]]}
        return {keyword: node.keywords()[keyword]}

    def _beside(self, node: SchemaNode, keyword: str) -> dict[str, Any]:
        value = node.keywords()[keyword]
        if keyword == "multipleOf":
            return self._function(_multiple_of(value))
        if keyword == "pattern":
            return self._format(compile_pattern(value).search)
        if keyword == "format":
            return self._format(FORMATS[value])
        if keyword == "contentEncoding":
            return self._format(is_base64)
        if keyword == "contentMediaType":
            return self._format(is_encoded_json if "contentEncoding" in node.keywords() else is_json)
        values = [value] if keyword == "const" else value
        if all(isinstance(item, str) for item in values):
            # what nearly every enum is, and ten times as fast
            return {"type": "string", **self._format(frozenset(values).__contains__)}
        return self._function(_one_of(values))

    def _function(self, check: Callable[..., None]) -> dict[str, Any]:
        name = f"o{len(self._own)}"
        self._own[name] = check
        self._definitions[name] = True
        return _reference(name)

    def _format(self, is_good: Callable[[str], Any]) -> dict[str, Any]:
        name = f"format{len(self._formats)}"
        self._formats[name] = is_good
        return {"format": name}

    def _name_of(self, pattern: str) -> str:
        name = f"name{len(self._names)}"
        self._names[name] = compile_pattern(pattern)
        return name


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def _multiple_of(divisor: int | float) -> Callable[..., None]:
    """Check exactly, in the decimals of the JSON text: 19.01 is a multiple of 0.01."""
    exact = Decimal(repr(divisor))

    def check(value: Any, *_: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if isinstance(value, int) and isinstance(divisor, int):
            is_good = value % divisor == 0
        else:
            is_good = _EXACT.remainder(Decimal(repr(value)), exact) == 0
        if not is_good:
            raise SchemaViolation("must be a multiple")

    return check


def _one_of(values: list[Any]) -> Callable[..., None]:
    """Check that a value is one of these, where 1 equals 1.0 but not true."""
    scalars = frozenset((_kind(value), value) for value in values if not isinstance(value, dict | list))
    containers = [value for value in values if isinstance(value, dict | list)]

    def check(value: Any, *_: Any) -> None:
        if isinstance(value, dict | list):
            is_good = any(_is_same(value, container) for container in containers)
        else:
            is_good = (_kind(value), value) in scalars
        if not is_good:
            raise SchemaViolation("must be one of the values")

    return check


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _is_same(value: Any, known: Any) -> bool:
    if isinstance(known, dict):
        return (
            isinstance(value, dict)
            and len(value) == len(known)
            and all(name in value and _is_same(value[name], item) for name, item in known.items())
        )
    if isinstance(known, list):
        return isinstance(value, list) and len(value) == len(known) and all(map(_is_same, value, known))
    return _kind(value) == _kind(known) and bool(value == known)


def _bind(function: Callable[..., object], formats: Mapping[str, Any]) -> Callable[[Any], object]:
    return lambda value: function(value, formats)


def _reject_reference(uri: str) -> Any:
    raise fastjsonschema.JsonSchemaDefinitionException(f"reference to {uri}")


def _without_effectless(written: dict[str, Any]) -> Any:
    """Leave out what decides nothing, for which fastjsonschema writes empty blocks; true if nothing is left."""
    if written.get("then") is True:
        del written["then"]
    if written.get("else") is True:
        del written["else"]
    if "then" not in written and "else" not in written:
        written.pop("if", None)
    for key in ("items", "additionalItems", "additionalProperties", "propertyNames"):
        if written.get(key) is True:
            del written[key]
    for key in ("properties", "patternProperties", "dependencies", "required"):
        if key in written and not written[key]:
            del written[key]
    return written or True
