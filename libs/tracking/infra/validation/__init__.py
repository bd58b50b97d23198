"""JSON Schema draft-07 for event properties, behind one guarded door: `check_schema` when a structure is registered,
`compile_schema` where events arrive.

fastjsonschema turns a schema into Python source, so nothing of a schema reaches it before the rules hold, and then only
a copy that is written anew (`compiler`). What a schema can cost is known before it runs (`cost`), so neither a hostile
schema nor a hostile event against a harmless one holds the event loop.
"""

import contextlib
import logging
from itertools import islice
from typing import Any

from tracking.domain.errors import Malformed
from tracking.infra.validation import explain, rules
from tracking.infra.validation.compiler import CompiledSchema, SchemaViolation, compile_tree
from tracking.infra.validation.cost import estimate_costs, is_affordable, is_affordable_by_size
from tracking.infra.validation.schema_tree import SchemaNode, build_schema_tree

_log = logging.getLogger(__name__)


def check_schema(schema: Any) -> None:
    """Raise Malformed (`invalid_schema`) unless the schema may be registered.

    The error has up to 20 details `{field: place in the schema such as #/properties/a, message}`. The check takes
    milliseconds, and some hundred of them for the largest schema.
    """
    compile_tree(_build_checked_tree(schema))


def _build_checked_tree(schema: Any) -> list[SchemaNode]:
    _raise_any(rules.find_size_errors(schema))
    _raise_any(rules.find_shape_errors(schema))
    nodes = build_schema_tree(schema)
    _raise_any(rules.find_rule_errors(nodes))
    _raise_any(rules.find_loop_errors(nodes))
    _raise_any(rules.find_cost_errors(nodes))
    return nodes


def _raise_any(faults: Any) -> None:
    details = [{"field": place, "message": message} for place, message in islice(faults, explain.MAX_ERRORS)]
    if details:
        first = details[0]
        raise Malformed("invalid_schema", f"{first['field']}: {first['message']}", details)


class Validator:
    """Finds the validation errors of properties. Create it with `compile_schema`. Threads may share one."""

    __slots__ = ("_levels", "_nodes", "_program")

    def __init__(self, nodes: list[SchemaNode], program: CompiledSchema) -> None:
        self._nodes = nodes
        self._program = program
        self._levels = estimate_costs(nodes)

    def find_errors(self, value: Any, size_bytes: int | None = None) -> list[dict[str, str]]:
        """`[{code, path, schemaPath, message}]`, at most 20; empty when all is well. Never raises.

        `size_bytes`, the length of the value's JSON, saves a look at its size where it is known.

        `code` is the keyword in snake_case, `path` a JSON pointer into the value, `schemaPath` one into the schema.
        A code of its own have `validation_too_costly` (the value is too large for this schema) and `schema_faulty`
        (the schema cannot be applied at all).
        """
        try:
            is_small = size_bytes is not None and is_affordable_by_size(self._levels, size_bytes)
            if not is_small and not is_affordable(self._levels, value):
                return [
                    explain.make_validation_error(
                        "validation_too_costly", "", "#", "is too large to be validated by this schema"
                    )
                ]
            self._program.check(value)
        except SchemaViolation:
            return self._explain(value)
        except Exception as error:
            # whatever a schema makes fastjsonschema do, the event is stored
            return [_faulty(error)]
        return []

    def _explain(self, value: Any) -> list[dict[str, str]]:
        with contextlib.suppress(Exception):  # that it is wrong is known already
            found = explain.collect_validation_errors(self._nodes[0], self._program, value)
            if found:
                return found
        return [
            explain.make_validation_error("schema", "", "#", "does not meet the schema; it is too large to say where")
        ]


class _UnusableSchema(Validator):
    """Stands for a schema that is not usable, so that its events are stored and flagged."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def errors(self, value: Any, size_bytes: int | None = None) -> list[dict[str, str]]:
        """Return the same error for every value."""
        return [_faulty(self._error)]


def _faulty(error: Exception) -> dict[str, str]:
    return explain.make_validation_error(
        "schema_faulty", "", "#", f"the schema cannot be applied: {type(error).__name__}"
    )


def compile_schema(schema: Any) -> Validator:
    """Return the validator of a registered schema. Never raises, and may run in a thread.

    A schema that `check_schema` would reject (registered under older rules, or written past admin) is not compiled:
    every event then has the error `schema_faulty`.
    """
    try:
        nodes = _build_checked_tree(schema)
        return Validator(nodes, compile_tree(nodes))
    except Exception as error:
        _log.error("a stored schema cannot be compiled: %s", error)
        return _UnusableSchema(error)
