"""The contracts of the registry's entries in Redis: their examples, and what their readers do with each of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import orjson
import pytest

from services.admin.models.partner_systems import SystemAnswer
from services.gateway.events.structure_index import SchemaRef
from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from services.query.auth import AccessTokenLookup
from tests.support.credential_changes import trusted_changes
from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import AccessTokenEntry, ApiKeyEntry, EventStructureEntry, PartnerSystemEntry
from tracking.domain.errors import Forbidden, Unauthenticated
from tracking.domain.partner import SystemType
from tracking.domain.system_settings import DEFAULT_SETTINGS
from tracking.infra.cache_aside import CacheAside

FOLDER = Path(cache_entries.__file__).parent / "examples"
ENTRIES: dict[str, Any] = {
    "api_key_entry": ApiKeyEntry,
    "access_token_entry": AccessTokenEntry,
    "partner_system_entry": PartnerSystemEntry,
    "event_structure_entry": EventStructureEntry,
}
KEY = "sk_" + 32 * "a"
NOW = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)


def examples(kind: str, contract: str | None = None) -> pytest.MarkDecorator:
    """The files of a kind, `good` or `bad`, with the contract of each and its content."""
    found = [path for name in ENTRIES for path in sorted(FOLDER.glob(f"{name}.{kind}.*.json"))]
    wanted = [path for path in found if contract in (None, path.name.split(".")[0])]
    return pytest.mark.parametrize(
        ("contract", "data"),
        [(path.name.split(".")[0], path.read_bytes()) for path in wanted],
        ids=[path.name.removesuffix(".json") for path in wanted],
    )


class Redis:
    """A Redis that holds one value under every key."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def get(self, key: str) -> bytes:
        """It, whatever the key."""
        return self._data

    async def mget(self, keys: list[str]) -> list[bytes]:
        """It for each of them."""
        return [self._data for _ in keys]

    async def set(self, key: str, value: bytes, **options: object) -> None:
        """As where the key is there already and only an absent one may be set."""
        assert options["nx"]


class Database:
    """The calls of an asyncpg pool that the look-ups make; it counts them and has no credential, but every schema."""

    def __init__(self) -> None:
        self.asked = 0

    async def fetchrow(self, query: str, *arguments: object) -> None:
        """No such credential."""
        self.asked += 1

    async def fetch(self, query: str, *arguments: object) -> list[object]:
        """No such credentials."""
        self.asked += 1
        return []

    async def fetchval(self, query: str, *arguments: object) -> str:
        """The schema that every value meets."""
        self.asked += 1
        return "true"


def a_redis(data: bytes) -> CacheAside:
    redis = CacheAside(cast(Any, Redis(data)))
    redis.is_subscribed = True
    return redis


@pytest.mark.parametrize("contract", ENTRIES)
def test_there_are_examples_of_both_kinds(contract: str) -> None:
    good, bad = ([*FOLDER.glob(f"{contract}.{kind}.*.json")] for kind in ("good", "bad"))

    assert len(good) >= 3
    assert len(bad) >= 4


@examples("good")
def test_a_good_example_is_read_and_written_again_without_loss(contract: str, data: bytes) -> None:
    entry = ENTRIES[contract].decode(data)

    assert entry is not None
    assert ENTRIES[contract].decode(entry.encode()) == entry


@examples("good")
def test_of_an_entry_no_member_is_written_that_a_good_example_lacks(contract: str, data: bytes) -> None:
    written = json.loads(ENTRIES[contract].decode(data).encode())

    # what entries that were written before lack
    assert set(written) - {"settings", "is_partner_active", "generation"} <= set(json.loads(data))


@examples("bad")
def test_a_bad_example_counts_as_absent(contract: str, data: bytes) -> None:
    assert ENTRIES[contract].decode(data) is None


@pytest.mark.parametrize("contract", ENTRIES)
@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"null", b"[]", b'"x"', b"{}"])
def test_bytes_that_are_no_entry_count_as_absent(contract: str, data: bytes) -> None:
    assert ENTRIES[contract].decode(data) is None


@examples("good", "api_key_entry")
async def test_the_gateway_goes_by_every_good_entry_of_a_key(contract: str, data: bytes) -> None:
    database = Database()
    keys = ApiKeyLookup(a_redis(data), cast(Any, database), trusted_changes(), ttl_s=60, wait_s=1)
    entry = json.loads(data)

    if entry["revoked_at"] is None and entry["is_partner_active"]:
        found = await keys.authenticate(KEY, NOW)
        assert (str(found.key_id), found.settings) == (entry["key_id"], DEFAULT_SETTINGS)
    else:
        with pytest.raises((Unauthenticated, Forbidden)):
            await keys.authenticate(KEY, NOW)
    assert database.asked == 0


@examples("good", "access_token_entry")
async def test_query_goes_by_every_good_entry_of_a_token(contract: str, data: bytes) -> None:
    database = Database()
    tokens = AccessTokenLookup(a_redis(data), cast(Any, database), cast(Any, database), trusted_changes(), ttl_s=60)
    entry = json.loads(data)

    if not entry.get("is_partner_active", True):
        with pytest.raises(Forbidden):
            await tokens.authenticate("Bearer tk_a", NOW)
    elif entry["revoked_at"] is None:
        assert str((await tokens.authenticate("Bearer tk_a", NOW)).partner_id) == entry["partner_id"]
    else:
        with pytest.raises(Unauthenticated) as failure:
            await tokens.authenticate("Bearer tk_a", NOW)
        assert failure.value.code == "revoked_token"
    assert database.asked == 0


@examples("bad", "api_key_entry")
async def test_the_gateway_asks_the_database_instead_of_a_bad_entry(contract: str, data: bytes) -> None:
    database = Database()
    keys = ApiKeyLookup(a_redis(data), cast(Any, database), trusted_changes(), ttl_s=60, wait_s=1)

    with pytest.raises(Unauthenticated):
        await keys.authenticate(KEY, NOW)
    assert database.asked == 1


@examples("bad", "access_token_entry")
async def test_query_asks_the_database_instead_of_a_bad_entry(contract: str, data: bytes) -> None:
    database = Database()
    tokens = AccessTokenLookup(a_redis(data), cast(Any, database), cast(Any, database), trusted_changes(), ttl_s=60)

    with pytest.raises(Unauthenticated):
        await tokens.authenticate("Bearer tk_a", NOW)
    assert database.asked == 1


@examples("good", "event_structure_entry")
async def test_the_gateway_compiles_every_schema_of_a_good_entry(contract: str, data: bytes) -> None:
    database = Database()
    structures = EventStructureLookup(a_redis(data), cast(Any, database))
    entry = json.loads(data)

    for version in entry["versions"]:
        wanted = SchemaRef(UUID(entry["structureId"]), version["version"], None, "purchase")
        await structures.load(wanted)
        is_strict = version["schema"] is not True
        assert bool(structures.index.get_validator(wanted).find_errors({}, 2)) == is_strict
    assert database.asked == 0


@examples("bad", "event_structure_entry")
async def test_the_gateway_reads_a_schema_from_the_database_instead_of_a_bad_entry(contract: str, data: bytes) -> None:
    database = Database()
    structures = EventStructureLookup(a_redis(data), cast(Any, database))
    wanted = SchemaRef(UUID("019b4fe1-2e40-7a31-9c1e-000000000005"), 1, None, "purchase")

    await structures.load(wanted)

    assert database.asked == 1
    assert structures.index.get_validator(wanted).find_errors({}, 2) == []


@examples("good", "partner_system_entry")
def test_admin_shows_every_good_entry_of_a_system(contract: str, data: bytes) -> None:
    entry = PartnerSystemEntry.decode(data)
    assert entry is not None

    system = entry.to_system()
    shown = SystemAnswer.model_validate(system, from_attributes=True).model_dump(mode="json", by_alias=True)

    assert PartnerSystemEntry.from_system(system) == entry
    known = json.loads(data)
    assert {name: shown[name] for name in ("id", "partnerId", "name", "type")} == {
        name: known[name] for name in ("id", "partnerId", "name", "type")
    }
    assert shown["isActive"] == (known["deactivatedAt"] is None)
    assert entry.type in SystemType


def test_a_schema_is_written_as_its_json_text() -> None:
    # deeper than orjson encodes objects
    schema = '{"not":' * 300 + "true" + "}" * 300

    entry = EventStructureEntry.decode(EventStructureEntry(UUID(int=5), {3: orjson.Fragment(schema)}).encode())

    assert entry is not None
    assert entry.schemas[3] == orjson.loads(schema)
