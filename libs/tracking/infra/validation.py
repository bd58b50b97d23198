"""Does an event meet its structure? And is a structure one that may be asked at all?

fastjsonschema writes Python code from a schema and runs it, which makes it fast and makes a schema something to be
careful with. This is the only module that imports it. What reaches it is never the schema as it came but a copy made
of known keywords (`_Source.prepared`): annotations are left out, every `$ref` names a definition that was numbered
here, and patterns and formats are our own. `check_schema` decides at registration; `compile_schema` trusts nothing and
never raises, for a schema may also come from a cache.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import fastjsonschema
from fastjsonschema.draft2019 import CodeGeneratorDraft2019

from tracking.domain.errors import Malformed
from tracking.infra import schema_rules
from tracking.infra.schema_rules import DRAFT_07, Fault, Location, resolve

MOST_ERRORS = 20
# how often one value may follow a `$ref`: recursion that fans out ends here, and nothing that fits into an event does
_MOST_REFERENCES = 100_000

Errors = list[dict[str, Any]]

_IN_PLACE_LISTS = frozenset({"allOf", "anyOf", "oneOf"})
_SINGLE = frozenset(
    {"additionalItems", "additionalProperties", "contains", "else", "if", "not", "propertyNames", "then"}
)
# asked as a whole when faults are told apart; the others are followed into their parts
_WHOLE = schema_rules.ASSERTIONS - {"then", "else", "additionalItems"}
_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _matcher(name: str, longest: int) -> Callable[[str], bool]:
    pattern = re.compile(CodeGeneratorDraft2019.FORMAT_REGEXS[name])
    return lambda text: len(text) <= longest and pattern.match(text) is not None


def _is_regex(text: str) -> bool:
    try:
        re.compile(text if len(text) <= schema_rules.MAX_PATTERN else "(")
    except (re.error, RecursionError, OverflowError):
        return False
    return True


# the patterns of these are slow on long text, which none of them can be and still be right
_SHORT = {"email": 320, "idn-email": 320, "hostname": 253, "idn-hostname": 253, "ipv6": 45}
FORMATS = {
    name: _matcher(name, _SHORT.get(name, schema_rules.MAX_BYTES)) for name in CodeGeneratorDraft2019.FORMAT_REGEXS
}
FORMATS["regex"] = _is_regex


def check_schema(schema: Any) -> None:
    """Whether this may become a structure. Raises Malformed (`invalid_schema`) with one detail for each fault."""
    faults = schema_rules.too_large(schema)
    if not faults:
        faults = [Fault(error["path"], error["message"]) for error in _META.errors(schema)]
    if not faults:
        faults = schema_rules.forbidden(schema)
    if not faults:
        faults = _uncompilable(schema)
    if faults:
        details = [{"field": f"#{fault.pointer}", "message": fault.message} for fault in faults[:MOST_ERRORS]]
        raise Malformed("invalid_schema", f"Not a usable draft-07 schema: {faults[0].message}", details)


def compile_schema(schema: Any) -> "Validator":
    """Make a schema ready; one that cannot be compiled gives a validator that says `schema_faulty` of every value."""
    return Validator(schema)


class Validator:
    """Tells what is wrong with a value: nothing, in one call of compiled code, or else up to 20 faults."""

    def __init__(self, schema: Any) -> None:
        self._source = _Source(schema)
        self._fault: str | None = None
        try:
            self._passes = self._source.compiled(schema)
        except Exception as error:  # whatever a schema makes the compiler raise, it is the schema's fault
            self._fault = f"The schema cannot be compiled ({type(error).__name__})."

    def errors(self, value: Any) -> Errors:
        """`[]` if the value is valid, else `{code, path, schemaPath, message}` of each fault. Never raises."""
        if self._fault is not None:
            return [_faulty(self._fault)]
        try:
            self._source.references = 0
            if self._passes(value):
                return []
            return self._explained(value)
        except Exception as error:  # code made from a schema may raise anything; the event is stored all the same
            return [_faulty(f"The schema cannot decide about this value ({type(error).__name__}).")]

    def _explained(self, value: Any) -> Errors:
        found: Errors = []
        for error in _Explainer(self._source).faults(self._source.root, value, Location("", "")):
            found.append(error)
            if len(found) == MOST_ERRORS:
                break
        return found or [{"code": "invalid", "path": "", "schemaPath": "#", "message": "does not meet the schema"}]


def _faulty(message: str) -> dict[str, Any]:
    return {"code": "schema_faulty", "path": "", "schemaPath": "#", "message": message}


class _TooManyReferences(Exception):
    """A `$ref` was followed more often than any honest schema needs."""


class _Source:
    """A schema and the compiled functions of its parts."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.references = 0
        self._parts: dict[tuple[str, str], Callable[[Any], bool]] = {}

    def part(self, schema_path: str, keyword: str, schema: Any) -> Callable[[Any], bool]:
        """Whether a value meets one part of the schema; compiled when first asked for."""
        found = self._parts.get((schema_path, keyword))
        if found is None:
            found = self._parts[schema_path, keyword] = self.compiled(schema)
        return found

    def compiled(self, schema: Any) -> Callable[[Any], bool]:
        """Raises anything for a schema that cannot be compiled."""
        function = fastjsonschema.compile(
            self.prepared(schema),
            handlers=_REFUSING,
            formats=FORMATS,
            use_default=False,
            detailed_exceptions=False,
        )
        self._count_references(function.func.__globals__)  # type: ignore[attr-defined]

        def passes(value: Any) -> bool:
            try:
                function(value)
            except fastjsonschema.JsonSchemaException:
                return False
            return True

        return passes

    def prepared(self, schema: Any) -> dict[str, Any]:
        """The schema as the compiler sees it: known keywords only, references numbered in the order they are met."""
        targets: dict[str, str] = {}
        waiting: list[tuple[str, Any]] = []

        def number(reference: str) -> str:
            if reference not in targets:
                targets[reference] = f"d{len(targets)}"
                waiting.append((targets[reference], resolve(self.root, reference)))
            return f"#/definitions/{targets[reference]}"

        root = _copy(schema, number)
        made = root if isinstance(root, dict) else {"allOf": [root]}
        definitions = made["definitions"] = {}
        while waiting:
            name, target = waiting.pop()
            definitions[name] = _copy(target, number)
        return {"$schema": DRAFT_07, **made}

    def _count_references(self, functions: dict[str, Any]) -> None:
        """Every reference is a call of a function by its global name, so that is where they can be counted."""
        for name, function in list(functions.items()):
            if name.startswith("validate__"):
                functions[name] = self._counted(function)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.references += 1
            if self.references > _MOST_REFERENCES:
                raise _TooManyReferences
            return function(*arguments)

        return call


def _copy(schema: Any, number: Callable[[str], str]) -> Any:
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return {"$ref": number(schema["$ref"])}
    made: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "const":
            made.setdefault("allOf", []).append({"enum": [value]})
        elif keyword == "allOf":
            made.setdefault("allOf", []).extend(_copy(item, number) for item in value)
        elif keyword in schema_rules.ASSERTIONS:
            made[keyword] = _copied_keyword(keyword, value, number)
    return made


def _copied_keyword(keyword: str, value: Any, number: Callable[[str], str]) -> Any:
    if keyword in _SINGLE or (keyword == "items" and not isinstance(value, list)):
        return _copy(value, number)
    if keyword in _IN_PLACE_LISTS or keyword == "items":
        return [_copy(item, number) for item in value]
    if keyword == "pattern":
        return schema_rules.python_pattern(value)
    if keyword == "patternProperties":
        return {schema_rules.python_pattern(name): _copy(item, number) for name, item in value.items()}
    if keyword == "properties":
        return {name: _copy(item, number) for name, item in value.items()}
    if keyword == "dependencies":
        return {name: item if isinstance(item, list) else _copy(item, number) for name, item in value.items()}
    return value


class _Explainer:
    """Finds the faults of a value that is known to be invalid, keyword by keyword, with the same compiled code."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def faults(self, schema: Any, value: Any, at: Location) -> Iterator[dict[str, Any]]:
        """Faults in the order of the schema's keywords, each with the place in the value and in the schema."""
        if self._source.part(at.schema, "", schema)(value):
            return
        if not isinstance(schema, dict):
            yield _error("false_schema", at, "", "must not be there")
        elif "$ref" in schema:
            target = at._replace(schema=schema["$ref"].removeprefix("#"))
            yield from self.faults(resolve(self._source.root, schema["$ref"]), value, target)
        else:
            for keyword, rule in schema.items():
                yield from self._keyword(schema, keyword, rule, value, at)

    def _keyword(self, schema: dict[str, Any], keyword: str, rule: Any, value: Any, at: Location) -> Iterator[Any]:
        if keyword == "required":
            missing = [name for name in rule if name not in value] if isinstance(value, dict) else []
            for name in missing:
                yield _error(keyword, at, keyword, f"{name!r} is required")
        elif keyword == "allOf":
            for number, item in enumerate(rule):
                yield from self.faults(item, value, at.within(keyword, number))
        elif keyword == "if":
            branch = "then" if self._source.part(at.schema, keyword, rule)(value) else "else"
            yield from self.faults(schema.get(branch, True), value, at.within(branch))
        elif keyword in {"properties", "patternProperties", "additionalProperties"}:
            yield from self._members(schema, keyword, rule, value, at)
        elif keyword == "items" or (keyword == "additionalItems" and isinstance(schema.get("items"), list)):
            yield from self._items(schema, keyword, rule, value, at)
        elif keyword in _WHOLE and not self._source.part(at.schema, keyword, {keyword: rule})(value):
            yield _error(keyword, at, keyword, schema_rules.meaning(keyword, rule))

    def _members(self, schema: dict[str, Any], keyword: str, rule: Any, value: Any, at: Location) -> Iterator[Any]:
        if not isinstance(value, dict):
            return
        patterns = {text: re.compile(schema_rules.python_pattern(text)) for text in schema.get("patternProperties", {})}
        for name, item in value.items():
            if keyword == "properties" and name in rule:
                yield from self.faults(rule[name], item, at.within(keyword, name).below(name))
            elif keyword == "patternProperties":
                for text in (text for text, pattern in patterns.items() if pattern.search(name)):
                    yield from self.faults(rule[text], item, at.within(keyword, text).below(name))
            elif keyword == "additionalProperties" and name not in schema.get("properties", {}):
                if any(pattern.search(name) for pattern in patterns.values()):
                    continue
                if rule is False:
                    yield _error(keyword, at.below(name), keyword, "is not a property that the schema knows")
                else:
                    yield from self.faults(rule, item, at.within(keyword).below(name))

    def _items(self, schema: dict[str, Any], keyword: str, rule: Any, value: Any, at: Location) -> Iterator[Any]:
        if not isinstance(value, list):
            return
        if keyword == "additionalItems":
            first = len(schema["items"])
            for index in range(first, len(value)):
                yield from self.faults(rule, value[index], at.within(keyword).below(index))
        elif isinstance(rule, list):
            for index, (item_rule, item) in enumerate(zip(rule, value, strict=False)):
                yield from self.faults(item_rule, item, at.within(keyword, index).below(index))
        else:
            for index, item in enumerate(value):
                yield from self.faults(rule, item, at.within(keyword).below(index))


def _error(keyword: str, at: Location, within: str, message: str) -> dict[str, Any]:
    schema_path = at.within(within).schema if within else at.schema
    return {
        "code": _SNAKE.sub("_", keyword).lower(),
        "path": at.value,
        "schemaPath": f"#{schema_path}",
        "message": message,
    }


def _uncompilable(schema: Any) -> list[Fault]:
    try:
        _Source(schema).compiled(schema)
    except Exception as error:  # the same breadth as in Validator: what fails there must be refused here
        return [Fault("", f"cannot be compiled: {str(error)[:200] or type(error).__name__}")]
    return []


def _refuse(uri: str) -> NoReturn:
    raise ValueError("references leave the schema")


class _Refusing(dict[str, Callable[[str], Any]]):
    """A handler for every scheme there is, so that nothing is ever opened or fetched."""

    def __contains__(self, scheme: object) -> bool:
        return True

    def __missing__(self, scheme: str) -> Callable[[str], Any]:
        return _refuse


_REFUSING = _Refusing()
_META = Validator(schema_rules.META_SCHEMA)
