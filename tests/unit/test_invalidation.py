"""The contract of `cache:invalidate`: its schema, its examples, and what gateway and query do with each of them."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from services.gateway.lookups.invalidation import apply_invalidation as apply_to_gateway
from services.query.auth import AccessTokenLookup
from services.query.invalidation import apply_invalidation as apply_to_query
from tests.support.credential_changes import trusted_changes
from tracking.contracts import invalidation
from tracking.contracts.invalidation import EVERYTHING, Invalidation
from tracking.domain.errors import Unauthenticated
from tracking.infra.cache_aside import CacheAside

FOLDER = Path(invalidation.__file__).parent
SCHEMA = json.loads((FOLDER / "invalidation.schema.json").read_text())
GOOD = sorted((FOLDER / "examples").glob("invalidation.good.*.json"))
BAD = sorted((FOLDER / "examples").glob("invalidation.bad.*.json"))
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
# the credential whose hash the examples name
SECRET = "sk_" + 8 * "test"
NOWHERE = cast(Any, None)


def _name(path: Path) -> str:
    return path.name.split(".")[2]


BODIES = {_name(example): example.read_bytes() for example in GOOD + BAD}


class EmptyDatabase:
    """The calls of an asyncpg pool that the look-ups make; it has no rows and counts what it is asked."""

    def __init__(self) -> None:
        self.credentials_read = 0
        self.indexes_read = 0
        self.was_read = asyncio.Event()

    async def fetchrow(self, query: str, *arguments: object) -> None:
        """No such credential."""
        self.credentials_read += 1

    async def fetch(self, query: str, *arguments: object) -> list[object]:
        """No keys with these hashes, or no event structures."""
        if arguments:
            self.credentials_read += 1
            return []
        self.indexes_read += 1
        self.was_read.set()
        return []


def test_there_are_examples_of_both_kinds() -> None:
    assert {json.loads(example.read_text())["kind"] for example in GOOD} == invalidation._KINDS
    assert len(BAD) >= 8


@pytest.mark.parametrize("example", GOOD, ids=_name)
def test_a_good_example_meets_the_schema_and_is_read(example: Path) -> None:
    message = json.loads(example.read_text())
    jsonschema.validate(message, SCHEMA, jsonschema.Draft7Validator)

    assert invalidation.decode(example.read_bytes()) == Invalidation(message["kind"], message.get("sha256"))


@pytest.mark.parametrize("example", BAD, ids=_name)
def test_a_bad_example_breaks_the_schema_and_stands_for_everything(example: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(example.read_text()), SCHEMA, jsonschema.Draft7Validator)

    assert invalidation.decode(example.read_bytes()) == EVERYTHING


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"null", b"[]", b'"x"', b"{}"])
def test_bytes_that_are_no_message_stand_for_everything(body: bytes) -> None:
    assert invalidation.decode(body) == EVERYTHING


@pytest.mark.parametrize(
    "message",
    [Invalidation("api_key", "0" * 64), Invalidation("access_token", "f" * 64), Invalidation("structure"), EVERYTHING],
)
def test_an_encoded_invalidation_meets_the_schema_and_comes_back(message: Invalidation) -> None:
    body = invalidation.encode(message)

    jsonschema.validate(json.loads(body), SCHEMA, jsonschema.Draft7Validator)
    assert invalidation.decode(body) == message


@pytest.mark.parametrize(
    ("kind", "sha256"),
    [("api_key", None), ("access_token", "F" * 64), ("structure", "0" * 64), ("all", "0" * 64), ("partner", None)],
)
def test_an_invalidation_that_breaks_the_contract_cannot_be_made(kind: Any, sha256: str | None) -> None:
    with pytest.raises(ValueError, match="invalidation"):
        Invalidation(kind, sha256)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_the_gateway_drops_what_each_example_names(body: bytes) -> None:
    database = EmptyDatabase()
    keys = ApiKeyLookup(CacheAside(NOWHERE), cast(Any, database), trusted_changes(), ttl_s=600, wait_s=1)
    structures = EventStructureLookup(CacheAside(NOWHERE), cast(Any, database))
    message = invalidation.decode(body)
    running = asyncio.create_task(structures.run())
    await database.was_read.wait()
    await _ask_gateway(keys)
    database.was_read.clear()

    apply_to_gateway(message, keys, structures)

    await _ask_gateway(keys)
    assert database.credentials_read == (2 if message.kind in ("api_key", "all") else 1)
    if message.kind in ("structure", "all"):
        await database.was_read.wait()
    for _ in range(20):  # turns of the event loop, in which an index that is stale would be read
        await asyncio.sleep(0)
    assert database.indexes_read == (2 if message.kind in ("structure", "all") else 1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def _ask_gateway(keys: ApiKeyLookup) -> None:
    with pytest.raises(Unauthenticated):
        await keys.authenticate(SECRET, NOW)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_query_drops_what_each_example_names(body: bytes) -> None:
    database = EmptyDatabase()
    tokens = AccessTokenLookup(
        CacheAside(NOWHERE), cast(Any, database), cast(Any, database), trusted_changes(), ttl_s=600
    )
    message = invalidation.decode(body)
    await _ask_query(tokens)

    apply_to_query(message, tokens)

    await _ask_query(tokens)
    assert database.credentials_read == (2 if message.kind in ("access_token", "all") else 1)


async def _ask_query(tokens: AccessTokenLookup) -> None:
    with pytest.raises(Unauthenticated):
        await tokens.authenticate(f"Bearer {SECRET}", NOW)
