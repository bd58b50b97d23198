"""Upper bounds of the cost of validating a value, computed before the validation starts.

The unit is 0.1 µs on the machine of docs/benchmarks.md; the weights are measured and rounded up. A schema is weighed
once: for each depth of a value, the most that one value there can be made to cost. That also finds schemas in which
references multiply (each of 20 definitions naming the next one twice), without ever running one.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from tracking.infra.validation.patterns import compile_pattern
from tracking.infra.validation.schema_tree import SchemaNode

MAX_VALUE_DEPTH = 64
# 25 ms: the gateway's event loop is held by nothing longer than 50 ms, and telling the faults comes on top.
BUDGET = 250_000
# A single value that costs 2 ms: nothing useful is that heavy, and references that multiply always are.
MAX_VALUE_COST = 20_000
_NODE = 1
_KEYWORD = 1.5
# a sub-schema tried and failed is an exception raised and caught
_BRANCH = 30
_CALL = 50
_COMPARISON = 6
_PER_CHARACTER = 0.045
_PER_ITEM = 8
_COLLISION = 0.6


class SchemaCost(NamedTuple):
    """The cost of a value: its `units`, those of each character of its text, how many uniqueItems look into it."""

    units: float = 0
    text: float = 0
    unique: float = 0


NOTHING = SchemaCost()


def estimate_costs(nodes: list[SchemaNode]) -> list[SchemaCost]:
    """Return the cost by depth, where 0 is the whole value, down to the depth at which the schema ends.

    References must not loop on the same value.
    """
    order = _in_place_first(nodes)
    below = {node.number: (NOTHING, NOTHING) for node in nodes}
    levels: list[SchemaCost] = []
    for depth in range(MAX_VALUE_DEPTH + 1):
        here: dict[int, tuple[SchemaCost, SchemaCost]] = {}
        for node in order:
            own = (_own(node),) * 2 if depth == 0 else _children(node, below, is_next=depth == 1)
            parts = [here[part.number] for part in node.in_place()]
            here[node.number] = (_sum(own[0], *(part[0] for part in parts)), _sum(own[1], *(part[1] for part in parts)))
        levels.append(_either(here[nodes[0].number]))
        if all(_either(weight) == NOTHING for weight in here.values()) or max(levels[-1]) > MAX_VALUE_COST:
            break
        below = here
    return levels


def _either(pair: tuple[SchemaCost, SchemaCost]) -> SchemaCost:
    return _most(pair)


def _in_place_first(nodes: list[SchemaNode]) -> list[SchemaNode]:
    """Order the nodes so that each comes after those that it tries on the same value."""
    order: list[SchemaNode] = []
    seen: set[int] = set()
    for start in nodes:
        waiting = [(start, False)]
        while waiting:
            node, is_ready = waiting.pop()
            if is_ready:
                order.append(node)
            elif node.number not in seen:
                seen.add(node.number)
                waiting.append((node, True))
                waiting.extend((part, False) for part in node.in_place())
    return order


def _own(node: SchemaNode) -> SchemaCost:
    if node.target is not None:
        return SchemaCost(_NODE)
    found = node.keywords()
    units = _NODE + _KEYWORD * len(found)
    for value in (*found.get("enum", ()), *([found["const"]] if "const" in found else ())):
        units += _COMPARISON * count_scalars(value) if isinstance(value, dict | list) else 0
    units += _CALL / 2 * (("enum" in found) + ("const" in found))
    units += len(found.get("required", ())) + 2 * len(found.get("properties", ()))
    units += sum(
        2 + len(value) if isinstance(value, list) else _BRANCH for value in found.get("dependencies", {}).values()
    )
    units += _BRANCH * sum(len(found.get(keyword, ())) for keyword in ("anyOf", "oneOf"))
    units += _BRANCH * sum(keyword in found for keyword in ("not", "if", "contains", "propertyNames"))
    text = 0.0
    if "multipleOf" in found:
        units += _CALL / 2
    for keyword in ("contentEncoding", "contentMediaType"):
        if keyword in found:
            units += _CALL
            text += 1
    if "format" in found:
        units += _CALL
        text += 1
    if "pattern" in found:
        units += _CALL
        text += _PER_CHARACTER * compile_pattern(found["pattern"]).programsize
    return SchemaCost(units, text)


def count_scalars(value: Any) -> int:
    """Return how many comparisons a value of an enum can take."""
    if isinstance(value, dict | list):
        return 1 + sum(count_scalars(item) for item in (value.values() if isinstance(value, dict) else value))
    return 1


def _children(
    node: SchemaNode, below: dict[int, tuple[SchemaCost, SchemaCost]], *, is_next: bool
) -> tuple[SchemaCost, SchemaCost]:
    """Return the costs of a value inside an object and of one inside an array.

    A child has one name, so of `properties` the most expensive counts. `is_next`: the value is a direct child, so the
    cost of finding its schemas is included.
    """
    if node.target is not None or not node.keywords():
        return NOTHING, NOTHING

    def weight(*children: SchemaNode | None) -> SchemaCost:
        return _most(_either(below[child.number]) for child in children if child is not None)

    named, one, many = node.named, node.one, node.many
    of_object = weight(*named.get("properties", {}).values(), one.get("additionalProperties"))
    of_object = _sum(of_object, *(weight(child) for child in named.get("patternProperties", {}).values()))
    of_object = _sum(of_object, weight(one.get("propertyNames")))
    of_array = weight(*many.get("items", ()), one.get("items"), one.get("additionalItems"))
    of_array = _sum(of_array, weight(one.get("contains")))
    if is_next:
        of_object = _sum(of_object, _finding(node))
        of_array = _sum(
            of_array, SchemaCost(_BRANCH if "contains" in one else 0, 0, bool(node.keywords().get("uniqueItems")))
        )
    return of_object, of_array


def _finding(node: SchemaNode) -> SchemaCost:
    """Return the cost of finding the schemas for one property name."""
    patterns = node.keywords().get("patternProperties", {})
    units = float(_CALL * len(patterns))
    if "propertyNames" in node.one:
        units += _BRANCH
    if "additionalProperties" in node.one:
        units += len(node.keywords().get("properties", {}))
    return SchemaCost(units, _PER_CHARACTER * sum(compile_pattern(pattern).programsize for pattern in patterns))


def _sum(*weights: SchemaCost) -> SchemaCost:
    return SchemaCost(*(sum(column) for column in zip(*weights, strict=True)))


def _most(weights: Iterable[SchemaCost]) -> SchemaCost:
    return SchemaCost(*(max(column) for column in zip(NOTHING, *weights, strict=True)))


def is_affordable_by_size(levels: list[SchemaCost], size_bytes: int) -> bool:
    """Return whether any value whose JSON has this length stays within BUDGET (at most a value for two bytes)."""
    heaviest = _most(levels)
    return not heaviest.unique and size_bytes * (heaviest.units / 2 + heaviest.text) <= BUDGET


def is_affordable(levels: list[SchemaCost], value: Any) -> bool:
    """Return whether the validation of `value` stays within BUDGET."""
    spent = 0.0
    looking = 0.0
    here: list[Any] = [value]
    depth = 0
    while here and spent <= BUDGET:
        weight = levels[min(depth, len(levels) - 1)]
        looking += weight.unique
        if weight == NOTHING and not looking and depth >= len(levels) - 1:
            return True
        containers = [item for item in here if isinstance(item, dict | list)]
        spent += len(here) * (weight.units + looking * _PER_ITEM)
        # items with equal hashes, which lists of -1 and -2 have (CPython: hash(-1) == hash(-2)), are compared pairwise
        spent += weight.unique * len(containers) ** 2 * _COLLISION
        if weight.text:
            spent += weight.text * sum(len(item) for item in here if isinstance(item, str))
        depth += 1
        text_of_names = levels[min(depth, len(levels) - 1)].text
        here = []
        for item in containers:
            if isinstance(item, list):
                here.extend(item)
                continue
            here.extend(item.values())
            if text_of_names:
                spent += text_of_names * sum(map(len, item))
    return spent <= BUDGET
