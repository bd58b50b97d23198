"""When two readings of the registry say the same, so that the caches are as new as they can be."""

from uuid import UUID

import orjson

from services.admin.cache_updates import CacheUpdates
from tracking.contracts.cache_entries import AccessTokenEntry, EventStructureEntry

TOKEN = AccessTokenEntry("read", UUID(int=1), None, None, generation=1)


def updates(generation: int, **entries: AccessTokenEntry | EventStructureEntry) -> CacheUpdates:
    made = CacheUpdates(generation)
    for key, entry in entries.items():
        made.add(key, entry)
    return made


def structure(schema: str) -> EventStructureEntry:
    return EventStructureEntry(UUID(int=2), {1: orjson.Fragment(schema)})


def test_the_same_schemas_are_the_same_though_they_were_read_twice() -> None:
    assert updates(1, a=structure("{}")).has_same_entries(updates(1, a=structure("{}")))
    assert not updates(1, a=structure("{}")).has_same_entries(updates(1, a=structure('{"type": "object"}')))


def test_a_higher_generation_alone_is_no_difference() -> None:
    later = AccessTokenEntry("read", UUID(int=1), None, None, generation=2)
    inactive = AccessTokenEntry("read", UUID(int=1), None, None, generation=2, is_partner_active=False)

    assert updates(1, a=TOKEN).has_same_entries(updates(2, a=later))
    assert not updates(1, a=TOKEN).has_same_entries(updates(2, a=inactive))
    assert not updates(1, a=TOKEN).has_same_entries(updates(1, b=TOKEN))
