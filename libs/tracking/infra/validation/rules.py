"""The rules for a schema to be registered: it is draft-07, self-contained, bounded, and nothing in it is ignored.

A keyword that would be ignored (a typing error, a later draft, another dialect) is rejected, because the author who
wrote it believes that it is checked.
"""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from tracking.infra.validation import explain
from tracking.infra.validation.compiler import CompiledSchema, SchemaViolation, compile_tree
from tracking.infra.validation.cost import MAX_VALUE_COST, count_scalars, estimate_costs
from tracking.infra.validation.formats import FORMATS
from tracking.infra.validation.patterns import PatternError, compile_pattern
from tracking.infra.validation.schema_tree import MAX_DEPTH, SchemaNode, build_schema_tree, join_pointer

MAX_BYTES = 64 * 1024
MAX_NODES = 500
MAX_ENUM_VALUES = 1_000
MAX_ENUM_DEPTH = 5
MAX_NAMES = 1_000
_DRAFT_07 = ("http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-07/schema")
_IN_DRAFT_07 = {
    "nullable": 'in draft-07 it is "type": ["string", "null"], or anyOf with {"type": "null"}',
    "id": "in draft-07 it is $id",
    "extends": "in draft-07 it is allOf",
    "discriminator": "in draft-07 it is oneOf, with a const in each",
    "example": "in draft-07 it is examples, an array",
    "$anchor": "in draft-07 a $ref names the place: #/definitions/...",
    "$dynamicAnchor": "in draft-07 a $ref names the place: #/definitions/...",
    "$dynamicRef": "in draft-07 it is $ref, to a place in this schema",
    "$recursiveAnchor": "in draft-07 it is $ref, to #",
    "$recursiveRef": "in draft-07 it is $ref, to #",
    "$vocabulary": "draft-07 has one vocabulary; leave it out",
    "contentSchema": "draft-07 does not look into a text; leave it out",
    "dependentRequired": "in draft-07 it is dependencies, with an array of names",
    "dependentSchemas": "in draft-07 it is dependencies, with a schema",
    "maxContains": "draft-07 does not count what contains finds; leave it out",
    "minContains": "draft-07 does not count what contains finds; contains alone means at least one",
    "prefixItems": "in draft-07 it is items with an array, and what was items is additionalItems",
    "unevaluatedItems": "in draft-07 list all places in items, and use additionalItems",
    "unevaluatedProperties": "in draft-07 list all names in properties, and use additionalProperties",
}
"""For keywords of other drafts and of OpenAPI: how the same is written in draft-07."""
_ANNOTATIONS = frozenset(
    {
        "$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated", "description", "examples",
        "readOnly", "title", "writeOnly",
    }
)  # fmt: skip
_ASSERTIONS = frozenset(
    {
        "$ref", "additionalItems", "additionalProperties", "allOf", "anyOf", "const", "contains", "contentEncoding",
        "contentMediaType", "dependencies", "else", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "if",
        "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties",
        "minimum", "multipleOf", "not", "oneOf", "pattern", "patternProperties", "properties", "propertyNames",
        "required", "then", "type", "uniqueItems",
    }
)  # fmt: skip
_CONTENT = {"contentEncoding": "base64", "contentMediaType": "application/json"}
Fault = tuple[str, str]


def find_size_errors(schema: Any) -> Iterator[Fault]:
    """Yield errors that are found before anything else reads the schema: no JSON, too large, too deep. Iterative."""
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > 4 * MAX_DEPTH:
            yield "#", f"nested deeper than {MAX_DEPTH} levels"
            return
        if isinstance(value, float) and not math.isfinite(value):
            yield "#", "a number that is not finite"
            return
        if isinstance(value, dict):
            waiting.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
        elif not isinstance(value, str | int | float | bool | None):
            yield "#", f"{type(value).__name__} is not JSON"
            return
    try:
        size = len(orjson.dumps(schema))
    except (TypeError, RecursionError) as error:
        yield "#", f"not JSON: {error}"
        return
    if size > MAX_BYTES:
        yield "#", f"{size} bytes; the limit is {MAX_BYTES}"
    elif not isinstance(schema, dict | bool):
        yield "#", "a schema is an object, true or false"


def find_shape_errors(schema: Any) -> Iterator[Fault]:
    """Yield the values of keywords that the meta-schema of draft-07 does not allow."""
    nodes, program = _meta_schema()
    try:
        program.check(schema)
    except SchemaViolation:
        for found in explain.collect_validation_errors(nodes[0], program, schema):
            yield "#" + found["path"], found["message"]


@cache
def _meta_schema() -> tuple[list[SchemaNode], CompiledSchema]:
    nodes = build_schema_tree(orjson.loads(Path(__file__).with_name("draft_07.json").read_bytes()))
    return nodes, compile_tree(nodes)


def find_rule_errors(nodes: list[SchemaNode]) -> Iterator[Fault]:
    """Yield errors that the meta-schema does not find: unknown keywords, remote references, too many nodes."""
    if len(nodes) > MAX_NODES:
        yield "#", f"{len(nodes)} sub-schemas; the limit is {MAX_NODES}"
        return
    values = names = 0
    for node in nodes:
        if node.depth > MAX_DEPTH:
            yield node.pointer, f"nested deeper than {MAX_DEPTH} levels"
            return
        found = node.keywords()
        given = [*found.get("enum", ()), *([found["const"]] if "const" in found else ())]
        values += sum(count_scalars(value) for value in given)
        names += len(found.get("required", ()))
        names += sum(len(needed) for needed in found.get("dependencies", {}).values() if isinstance(needed, list))
        if any(_is_nested(value, MAX_ENUM_DEPTH) for value in given):
            yield node.pointer, f"a value of enum or const nested deeper than {MAX_ENUM_DEPTH} levels"
        yield from _keyword_faults(node, found)
        yield from _text_faults(node, found)
        yield from _reference_faults(node, found)
        yield from _effect_faults(node, found)
    if values > MAX_ENUM_VALUES:
        yield "#", f"{values} values in enum and const; the limit is {MAX_ENUM_VALUES}"
    if names > MAX_NAMES:
        yield "#", f"{names} names in required and dependencies; the limit is {MAX_NAMES}"


def _is_nested(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(
        _is_nested(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


def _keyword_faults(node: SchemaNode, found: dict[str, Any]) -> Iterator[Fault]:
    for keyword in found:
        if keyword not in _ASSERTIONS and keyword not in _ANNOTATIONS and not keyword.startswith("x-"):
            way = _IN_DRAFT_07.get(keyword, "names of your own start with x-")
            yield join_pointer(node.pointer, keyword), f"is no keyword of draft-07, so it would be ignored; {way}"
    if "$schema" in found and node.depth > 0:
        yield join_pointer(node.pointer, "$schema"), "only at the top"
    elif "$schema" in found and found["$schema"] not in _DRAFT_07:
        yield (
            join_pointer(node.pointer, "$schema"),
            f"only {_DRAFT_07[0]}, or leave it out. Of a later draft, $defs may stay; prefixItems becomes items with "
            "an array, dependentRequired and dependentSchemas become dependencies, and what stands beside a $ref goes "
            "into allOf with it",
        )
    if "$id" in found and (node.depth > 0 or "#" in found["$id"]):
        yield (
            join_pointer(node.pointer, "$id"),
            "only at the top and without a fragment: elsewhere it changes what references mean",
        )


def _text_faults(node: SchemaNode, found: dict[str, Any]) -> Iterator[Fault]:
    if "format" in found and found["format"] not in FORMATS:
        yield join_pointer(node.pointer, "format"), f"unknown, so it would be ignored; known are {', '.join(FORMATS)}"
    for keyword, known in _CONTENT.items():
        if keyword in found and found[keyword] != known:
            yield join_pointer(node.pointer, keyword), f"unknown, so it would be ignored; known is {known}"
    places = [(join_pointer(node.pointer, "pattern"), found["pattern"])] if "pattern" in found else []
    places += [
        (join_pointer(node.pointer, "patternProperties", text), text) for text in found.get("patternProperties", ())
    ]
    for place, pattern in places:
        try:
            compile_pattern(pattern)
        except PatternError as fault:
            yield place, f"not a pattern we can run: {fault}"


def _reference_faults(node: SchemaNode, found: dict[str, Any]) -> Iterator[Fault]:
    if "$ref" not in found:
        return
    place = join_pointer(node.pointer, "$ref")
    if not (found["$ref"] == "#" or found["$ref"].startswith("#/")):
        yield place, "only references into this schema: # or #/..."
    elif node.target is None:
        yield place, "there is no schema at this place"
    ignored = sorted(_ASSERTIONS.intersection(found) - {"$ref"})
    if ignored:
        yield place, f"draft-07 ignores what stands beside it ({', '.join(ignored)}); use allOf"


def _effect_faults(node: SchemaNode, found: dict[str, Any]) -> Iterator[Fault]:
    for keyword in ("then", "else"):
        if keyword in found and "if" not in found:
            yield join_pointer(node.pointer, keyword), "has no effect without if"
    if "if" in found and "then" not in found and "else" not in found:
        yield join_pointer(node.pointer, "if"), "has no effect without then or else"
    if "additionalItems" in found and "items" not in node.many:
        yield join_pointer(node.pointer, "additionalItems"), "has no effect unless items is an array"


def find_loop_errors(nodes: list[SchemaNode]) -> Iterator[Fault]:
    """References that come back to where they started without looking at a part of the value: they would never end."""
    is_done: dict[int, bool] = {}
    for start in nodes:
        waiting = [(start, False)]
        while waiting:
            node, is_left = waiting.pop()
            if is_left:
                is_done[node.number] = True
            elif node.number not in is_done:
                is_done[node.number] = False
                waiting.append((node, True))
                waiting.extend((part, False) for part in node.in_place())
            elif not is_done[node.number]:
                yield node.pointer, "refers to itself without end"
                return


def find_cost_errors(nodes: list[SchemaNode]) -> Iterator[Fault]:
    """Schemas that would take too long on a small value; references must not loop."""
    if max(max(weight) for weight in estimate_costs(nodes)) > MAX_VALUE_COST:
        yield "#", "too expensive: its references and alternatives multiply"
