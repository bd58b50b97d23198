"""The public JSON Schema test suite (draft-07) as events: a group's schema is that of the property `value`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tracking.infra.validation.schema_tree import SchemaNode, build_schema_tree

_FOLDER = Path(__file__).parents[1] / "json_schema_test_suite" / "draft7"
Part = Literal["required", "optional"]


@dataclass(frozen=True, slots=True)
class Group:
    """A schema and its cases: `(description, data, whether it is valid)`."""

    name: str
    schema: Any
    cases: list[tuple[str, Any, bool]]


def groups(part: Part) -> Iterator[Group]:
    """All groups of the part in the order of their files."""
    for file in sorted(_FOLDER.glob("*.json") if part == "required" else (_FOLDER / "optional").rglob("*.json")):
        for group in json.loads(file.read_text()):
            cases = [(case["description"], case["data"], case["valid"]) for case in group["tests"]]
            yield Group(f"{file.relative_to(_FOLDER)}: {group['description']}", group["schema"], cases)


def as_property(schema: Any) -> dict[str, Any]:
    """The schema of properties whose `value` must meet `schema`.

    Properties are an object, and many cases are not. A reference into the schema is rebased, as the schema's place is
    another; `$id` and `$schema`, which mean the whole document, move to its top.
    """
    copied = json.loads(json.dumps(schema))
    for node in _nodes(copied):
        reference = node.keywords().get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            assert isinstance(node.schema, dict)
            node.schema["$ref"] = f"#/properties/value{reference[1:]}"
    top = {}
    if isinstance(copied, dict):
        top = {name: copied.pop(name) for name in ("$id", "$schema") if name in copied}
    return {**top, "properties": {"value": copied}}


def _nodes(schema: Any) -> list[SchemaNode]:
    try:
        return build_schema_tree(schema)
    except (AttributeError, TypeError):
        return []  # a keyword's value that cannot be one
