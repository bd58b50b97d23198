"""A schema as a tree of nodes, in which every place where a sub-schema may stand is known.

What stands elsewhere (in enum, const, default, examples) is data, even if it looks like a schema or a reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

# These try a sub-schema on the same value; the others on a part of it.
IN_PLACE_ONE = ("not", "if", "then", "else")
IN_PLACE_MANY = ("allOf", "anyOf", "oneOf")
CHILD_ONE = ("contains", "propertyNames", "additionalProperties", "additionalItems")
CHILD_NAMED = ("properties", "patternProperties")
CONTAINERS = ("definitions", "$defs")
MAX_DEPTH = 32


@dataclass(slots=True, eq=False)
class SchemaNode:
    """One sub-schema. `pointer` is its place (`#/properties/price`); the last three hold the sub-schemas by keyword."""

    schema: dict[str, Any] | bool
    pointer: str
    depth: int
    number: int
    target: "SchemaNode | None" = None
    one: dict[str, "SchemaNode"] = field(default_factory=dict)
    many: dict[str, list["SchemaNode"]] = field(default_factory=dict)
    named: dict[str, dict[str, "SchemaNode"]] = field(default_factory=dict)

    def keywords(self) -> dict[str, Any]:
        """Return the node's keywords; empty for true and false."""
        return self.schema if isinstance(self.schema, dict) else {}

    def in_place(self) -> Iterator["SchemaNode"]:
        """Return the sub-schemas that are tried on the value itself."""
        if self.target is not None:
            yield self.target
        for keyword in IN_PLACE_ONE:
            if keyword in self.one:
                yield self.one[keyword]
        for keyword in IN_PLACE_MANY:
            yield from self.many.get(keyword, ())
        yield from self.named.get("dependencies", {}).values()


def join_pointer(pointer: str, *parts: object) -> str:
    """Append reference tokens to `pointer` (RFC 6901)."""
    return "/".join([pointer, *(str(part).replace("~", "~0").replace("/", "~1") for part in parts)])


def build_schema_tree(schema: dict[str, Any] | bool) -> list[SchemaNode]:
    """Return all nodes, the root first.

    The schema must conform to the meta-schema. Depth and references are not checked here.
    """
    nodes: list[SchemaNode] = []
    _add(nodes, schema, "#", 0)
    by_pointer = {node.pointer: node for node in nodes}
    for node in nodes:
        reference = node.keywords().get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            node.target = by_pointer.get(unquote(reference))
    return nodes


def _add(nodes: list[SchemaNode], schema: dict[str, Any] | bool, pointer: str, depth: int) -> SchemaNode:
    node = SchemaNode(schema, pointer, depth, len(nodes))
    nodes.append(node)
    if isinstance(schema, dict) and depth <= MAX_DEPTH:
        for keyword, value in schema.items():
            _add_keyword(nodes, node, keyword, value)
    return node


def _add_keyword(nodes: list[SchemaNode], node: SchemaNode, keyword: str, value: Any) -> None:
    depth = node.depth + 1
    if keyword in IN_PLACE_ONE or keyword in CHILD_ONE or (keyword == "items" and not isinstance(value, list)):
        node.one[keyword] = _add(nodes, value, join_pointer(node.pointer, keyword), depth)
    elif keyword in IN_PLACE_MANY or keyword == "items":
        node.many[keyword] = [
            _add(nodes, item, join_pointer(node.pointer, keyword, position), depth)
            for position, item in enumerate(value)
        ]
    elif keyword in CHILD_NAMED or keyword in CONTAINERS:
        node.named[keyword] = {
            name: _add(nodes, item, join_pointer(node.pointer, keyword, name), depth) for name, item in value.items()
        }
    elif keyword == "dependencies":
        node.named[keyword] = {
            name: _add(nodes, item, join_pointer(node.pointer, keyword, name), depth)
            for name, item in value.items()
            if not isinstance(item, list)
        }
