"""The cache of credentials: how long entries are kept, how often they are looked up, and what invalidations do."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import pytest

from tracking.infra import circuit_breaker, credential_cache
from tracking.infra.circuit_breaker import CircuitBreaker
from tracking.infra.credential_cache import CredentialCache


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        """As of the module `time`."""
        return self.now_s


@dataclass(frozen=True, slots=True)
class Key:
    """An entry."""

    name: str
    owner_ids: tuple[UUID, ...] = ()


FIRST, SECOND = Key("first"), Key("second")
OWNER = UUID(int=7)


class Registry:
    """Where credentials are looked up: answers with `entry` once `may_answer` is set."""

    def __init__(self, entry: Key | None = FIRST) -> None:
        self.entry = entry
        self.looked_up: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_asked = asyncio.Event()

    async def look_up(self, digest: str) -> Key | None:
        """What stood there when the look-up began, as from a database that answers slowly."""
        self.looked_up.append(digest)
        entry = self.entry
        self.was_asked.set()
        await self.may_answer.wait()
        return entry


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the cache and of the circuit breaker."""
    clock = Clock()
    for module in (credential_cache, circuit_breaker):
        monkeypatch.setattr(module, "time", clock)
    return clock


def a_cache(registry: Registry, *, max_entries: int = 100) -> CredentialCache[Key]:
    return CredentialCache(registry.look_up, ttl_s=60, max_entries=max_entries)


@pytest.mark.parametrize("entry", [FIRST, None])
async def test_an_entry_is_kept_for_its_time_and_no_longer(clock: Clock, entry: Key | None) -> None:
    registry = Registry(entry)
    cache = a_cache(registry)
    await cache.get("a")

    clock.now_s += 60 - 0.01
    assert await cache.get("a") == entry
    assert registry.looked_up == ["a"]

    clock.now_s += 0.02
    await cache.get("a")
    assert registry.looked_up == ["a", "a"]


async def test_those_who_ask_together_share_one_look_up_though_one_gives_up() -> None:
    registry = Registry()
    registry.may_answer.clear()
    cache = a_cache(registry)
    asking = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await registry.was_asked.wait()

    asking[0].cancel()
    registry.may_answer.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [FIRST, FIRST]
    assert registry.looked_up == ["a"]


@pytest.mark.parametrize("named", [["a"], ["b"], [OWNER], None])
async def test_a_look_up_that_began_before_an_invalidation_is_repeated(named: list[str | UUID] | None) -> None:
    registry = Registry()
    registry.may_answer.clear()
    cache = a_cache(registry)
    asking = asyncio.create_task(cache.get("a"))
    await registry.was_asked.wait()

    registry.entry = SECOND
    cache.invalidate(named)
    registry.may_answer.set()

    assert await asking == SECOND
    assert registry.looked_up == ["a", "a"]


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["a"], {"b", "c"}),
        ([OWNER], {"a", "c"}),
        (["c", OWNER], {"a"}),
        ([UUID(int=8), "d"], {"a", "b", "c"}),
        (None, set()),
    ],
)
async def test_an_invalidation_drops_the_entries_that_it_names_and_those_of_an_owner(
    names: list[str | UUID] | None, left: set[str]
) -> None:
    registry = Registry()
    cache = a_cache(registry)
    for digest, registry.entry in (("a", FIRST), ("b", Key("second", (UUID(int=9), OWNER))), ("c", None)):
        await cache.get(digest)

    cache.invalidate(names)

    assert {*cache.entries, *cache.unknown} == left


async def test_it_holds_no_more_entries_than_it_may() -> None:
    cache = a_cache(Registry(), max_entries=10)
    entries = cache.entries

    for number in range(35):
        await cache.get(str(number))
        assert len(cache.entries) <= 10

    assert cache.entries is entries


async def test_made_up_secrets_push_no_entry_out_and_are_bounded_too() -> None:
    registry = Registry()
    cache = a_cache(registry, max_entries=10)
    await cache.get("good")

    registry.entry = None
    for number in range(35):
        await cache.get(str(number))
        await cache.get(str(number))
        assert len(cache.unknown) <= 10

    assert set(cache.entries) == {"good"}
    assert len(registry.looked_up) == 36


async def test_a_failed_look_up_is_told_to_all_and_not_kept() -> None:
    attempts = 0

    async def look_up(digest: str) -> Key:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ConnectionError(digest)
        return FIRST

    cache = CredentialCache(look_up, ttl_s=60, max_entries=10)

    failures = await asyncio.gather(cache.get("a"), cache.get("a"), return_exceptions=True)

    assert [type(failure) for failure in failures] == [ConnectionError, ConnectionError]
    assert await cache.get("a") == FIRST


def test_the_hash_of_a_secret_is_sha256_even_of_half_a_surrogate_pair() -> None:
    assert credential_cache.hash_secret("test").startswith("9f86d081884c7d65")
    assert len(credential_cache.hash_secret("\ud800")) == 64


def test_a_circuit_breaker_is_open_for_a_moment_after_each_failure(clock: Clock) -> None:
    breaker = CircuitBreaker("Redis does not answer", pause_s=2)
    seen = [breaker.is_open]

    for wait_s in (0.0, 1.9, 0.2):
        if wait_s == 0:
            breaker.record_failure(ConnectionError())
        clock.now_s += wait_s
        seen.append(breaker.is_open)

    assert seen == [False, True, True, False]
