"""Index of the event structures, and their compiled validators, in the memory of the process, without IO.

The index holds the names and versions of all structures, so an event without a structure needs no look-up, whatever
names a client invents. `lookups/event_structures.py` fills the index and loads a schema when the first event needs it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from tracking.domain.errors import Malformed
from tracking.infra.validation import Validator

_MAX_COMPILED_SCHEMAS = 2_000


@dataclass(frozen=True, slots=True)
class SchemaRef:
    """A reference to a schema: the `version` of the structure `structure_id`."""

    structure_id: UUID
    version: int
    partner_id: UUID | None
    event_name: str


@dataclass(slots=True)
class _Versions:
    by_number: dict[int, SchemaRef] = field(default_factory=dict)
    current: SchemaRef | None = None


# The outer key is the name, because a string caches its hash; that of a pair or a UUID is computed each time.
_Index = dict[str, dict[UUID | None, _Versions]]


class SchemaNotLoaded(Exception):
    """The validator of `wanted` must be loaded: `await EventStructureLookup.load(wanted)`, then ask again."""

    def __init__(self, wanted: SchemaRef) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class StructureIndex:
    """Finds the schema that an event must match. Empty until `replace`.

    Each validator is compiled once, and their number is bounded.
    """

    def __init__(self) -> None:
        self._index: _Index = {}
        self._compiled: OrderedDict[tuple[UUID, int], Validator] = OrderedDict()

    def find(self, partner_id: UUID, event_name: str, version: int | None) -> SchemaRef | None:
        """Return the structure of an event; the partner's own precedes the global one. None means that there is none.

        Raises Malformed (`unknown_schema_version`) if `version` is given and does not exist.
        """
        by_partner = self._index.get(event_name)
        if by_partner is None:
            return None
        versions = by_partner.get(partner_id) or by_partner.get(None)
        if versions is None:
            return None
        if version is None:
            return versions.current
        found = versions.by_number.get(version)
        if found is None:
            raise Malformed("unknown_schema_version", f"{event_name!r} has no published schema version {version}.")
        return found

    def is_registered(self, partner_id: UUID, event_name: str) -> bool:
        """Return whether the name has a structure, so that it may become a metric's label."""
        by_partner = self._index.get(event_name)
        return by_partner is not None and (partner_id in by_partner or None in by_partner)

    def get_validator(self, wanted: SchemaRef) -> Validator:
        """Return a compiled validator. Raises SchemaNotLoaded if it is not in memory."""
        key = (wanted.structure_id, wanted.version)
        validator = self._compiled.get(key)
        if validator is None:
            raise SchemaNotLoaded(wanted)
        return validator

    def replace(self, versions: Iterable[tuple[SchemaRef, bool]]) -> None:
        """Replace all versions by these, each with whether it is published.

        A version that is not published is deprecated: an event that names it is validated against it, and no other
        event is. Compiled validators are kept, because a schema never changes.
        """
        index: _Index = {}
        for found, is_published in versions:
            of_name = index.setdefault(found.event_name, {}).setdefault(found.partner_id, _Versions())
            of_name.by_number[found.version] = found
            if is_published and (of_name.current is None or found.version > of_name.current.version):
                of_name.current = found
        self._index = index

    def add_validator(self, wanted: SchemaRef, validator: Validator) -> None:
        """Keep the validator for `get_validator`; if there are too many, the oldest is dropped."""
        if len(self._compiled) >= _MAX_COMPILED_SCHEMAS:
            self._compiled.popitem(last=False)
        self._compiled[(wanted.structure_id, wanted.version)] = validator
