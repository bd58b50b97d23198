"""The rules of a system's settings, and how they travel as JSON."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.contracts.system_settings import decode_settings, encode_settings
from tracking.domain.errors import Malformed
from tracking.domain.partner import Partner, PartnerSystem, SystemType
from tracking.domain.system_settings import DEFAULT_SETTINGS, PrivacyRule, SystemSettings

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
EVERYTHING = SystemSettings(
    allowed_origins=("https://shop.example.com", "http://*.example.org:8080"),
    rate_limit_events_per_second=100,
    rate_limit_burst=500,
    ip_policy="drop",
    privacy_rules=(
        PrivacyRule("$.userId", "hash"),
        PrivacyRule("$.properties.items[*]['a.b']", "truncate", 7),
        PrivacyRule("$.context", "drop"),
    ),
)
ENTRY = ApiKeyEntry(
    key_id=UUID(int=1),
    expires_at=None,
    revoked_at=None,
    partner_system_id=UUID(int=2),
    system_name="Site",
    is_system_active=True,
    partner_id=UUID(int=3),
    partner_name="Acme",
    is_partner_active=True,
)


def fields_of(rejected: pytest.ExceptionInfo[Malformed]) -> list[str]:
    return [fault["field"] for fault in rejected.value.details]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Shop.Example.COM", "https://shop.example.com"),
        ("HTTPS://shop.example.com:443", "https://shop.example.com"),
        ("http://shop.example.com:80", "http://shop.example.com"),
        ("https://shop.example.com:80", "https://shop.example.com:80"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:08080", "http://127.0.0.1:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://*.Example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
        ("https://my_site.example.com", "https://my_site.example.com"),
    ],
)
def test_an_origin_is_kept_as_a_browser_sends_it(given: str, kept: str) -> None:
    assert SystemSettings(allowed_origins=(given,)).allowed_origins == (kept,)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "null",
        "shop.example.com",
        "//shop.example.com",
        "https://",
        "https://*",
        "https://*.com",
        "https://*.localhost",
        "https://*.0.0.1",
        "https://*.*.example.com",
        "https://shop.*.com",
        "https://a*.example.com",
        "https://*example.com",
        "https://shop.example.com/",
        "https://shop.example.com/path",
        "https://shop.example.com?x",
        "https://shop.example.com#x",
        "https://user@shop.example.com",
        "https://shop.example.com:",
        "https://shop.example.com:0",
        "https://shop.example.com:65536",
        "https://shop.example.com:x",
        "https://shop..example.com",
        "https://.example.com",
        "https://shop.example.com.",
        "https://-shop.example.com",
        "https://shop.example.com ",
        "https://shop.example.com\n",
        "https://shop.example.com\x00",
        "https://müller.example",
        "https://shop.\u212aexample.com",
        "ftp://shop.example.com",
        "capacitor://localhost",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 150 + "example",
    ],
)
def test_such_an_origin_is_rejected(origin: str) -> None:
    with pytest.raises(Malformed) as rejected:
        SystemSettings(allowed_origins=("https://good.example.com", origin))

    assert fields_of(rejected) == ["settings.allowedOrigins[1]"]


def test_the_same_origin_is_kept_once() -> None:
    settings = SystemSettings(allowed_origins=("https://b.example", "https://a.example", "https://B.example:443"))

    assert settings.allowed_origins == ("https://b.example", "https://a.example")


def test_without_origins_every_page_may_send() -> None:
    assert DEFAULT_SETTINGS.allows_origin("https://anywhere.example")
    assert DEFAULT_SETTINGS.allows_origin("null")


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://shop.example.com", True),
        ("https://SHOP.example.com", True),
        ("http://shop.example.com", False),
        ("https://shop.example.com:8443", False),
        ("https://shop.example.com.evil.example", False),
        ("https://other.example.com", False),
        ("http://a.example.org:8080", True),
        ("http://a.b.example.org:8080", True),
        ("http://example.org:8080", False),
        ("http://.example.org:8080", False),
        ("http://*.example.org:8080", False),
        ("http://a.example.org", False),
        ("https://a.example.org:8080", False),
        ("http://evilexample.org:8080", False),
        ("http://evil.example/.example.org:8080", False),
        ("http://evil.example?.example.org:8080", False),
        ("http://user@a.example.org:8080", False),
        ("http://a..example.org:8080", False),
        ("http://", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_pages_of_the_allowed_origins_may_send(origin: str, is_allowed: bool) -> None:
    assert EVERYTHING.allows_origin(origin) is is_allowed


def test_a_burst_is_twice_the_rate_unless_given() -> None:
    assert SystemSettings(rate_limit_events_per_second=1_000_000).rate_limit_burst == 2_000_000
    assert SystemSettings(rate_limit_events_per_second=5, rate_limit_burst=5).rate_limit_burst == 5
    assert DEFAULT_SETTINGS.rate_limit_burst is None


@pytest.mark.parametrize(
    ("rate", "burst", "field"),
    [
        (0, None, "eventsPerSecond"),
        (-1, None, "eventsPerSecond"),
        (1_000_001, None, "eventsPerSecond"),
        (True, None, "eventsPerSecond"),
        (1.5, None, "eventsPerSecond"),
        ("5", None, "eventsPerSecond"),
        (5, 4, "burst"),
        (5, 2_000_001, "burst"),
        (1, True, "burst"),
        (5, "9", "burst"),
        (None, 5, "burst"),
    ],
)
def test_such_a_limit_is_rejected(rate: Any, burst: Any, field: str) -> None:
    with pytest.raises(Malformed) as rejected:
        SystemSettings(rate_limit_events_per_second=rate, rate_limit_burst=burst)

    assert fields_of(rejected) == [f"settings.rateLimit.{field}"]


def test_every_fault_is_named() -> None:
    rules = tuple(PrivacyRule(path, "drop") for path in ("$.properties.a", "$.userId", "$.properties['a']"))
    policy: Any = "mask"

    with pytest.raises(Malformed) as rejected:
        SystemSettings(("x", "https://a.example", "y"), 0, None, policy, rules)

    assert fields_of(rejected) == [
        "settings.allowedOrigins[0]",
        "settings.allowedOrigins[2]",
        "settings.rateLimit.eventsPerSecond",
        "settings.ipPolicy",
        "settings.privacyRules[2].path",
    ]


def test_fifty_origins_and_rules_are_taken_and_no_more() -> None:
    origins = tuple(f"https://a{n}.example" for n in range(51))
    rules = tuple(PrivacyRule(f"$.properties.a{n}", "drop") for n in range(51))

    SystemSettings(allowed_origins=origins[:50], privacy_rules=rules[:50])
    with pytest.raises(Malformed) as rejected:
        SystemSettings(allowed_origins=origins, privacy_rules=rules)

    assert fields_of(rejected) == ["settings.allowedOrigins", "settings.privacyRules"]


def test_settings_come_back_from_json_as_they_were() -> None:
    assert decode_settings(encode_settings(EVERYTHING)) == EVERYTHING
    assert decode_settings(encode_settings(EVERYTHING)).allows_origin("http://a.example.org:8080")


def test_the_defaults_take_no_room() -> None:
    assert encode_settings(DEFAULT_SETTINGS) == b"{}"
    assert decode_settings(b"{}") == DEFAULT_SETTINGS


def test_members_of_a_newer_writer_are_passed_over() -> None:
    assert decode_settings(b'{"ipPolicy": "keep", "regions": ["eu"]}') == SystemSettings(ip_policy="keep")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'{"allowedOrigins": 5}',
        b'{"allowedOrigins": [5]}',
        b'{"allowedOrigins": "https://a.example"}',
        b'{"rateLimit": 5}',
        b'{"rateLimit": {"eventsPerSecond": "5"}}',
        b'{"ipPolicy": "mask"}',
        b'{"ipPolicy": ["keep"]}',
        b'{"privacyRules": [{}]}',
        b'{"privacyRules": ["$.userId"]}',
        b'{"privacyRules": [{"path": 5, "action": "drop"}]}',
        b'{"privacyRules": [{"path": "$.userId", "action": "mask"}]}',
        b'{"privacyRules": {"path": "$.userId", "action": "drop"}}',
    ],
)
def test_what_is_no_settings_is_never_taken_for_the_defaults(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode_settings(text)


def test_a_cached_key_carries_its_settings() -> None:
    entry = replace(ENTRY, settings=EVERYTHING)

    decoded = ApiKeyEntry.decode(entry.encode())

    assert decoded == entry
    assert decoded is not None
    assert decoded.settings.privacy_rules[1].segments == ("properties", "items", None, "a.b")


def test_a_cached_key_of_an_older_writer_has_the_defaults() -> None:
    old = orjson.loads(ENTRY.encode())
    del old["settings"]

    assert ApiKeyEntry.decode(orjson.dumps(old)) == ENTRY
    del old["system_name"]
    assert ApiKeyEntry.decode(orjson.dumps(old)) is None


def test_a_cached_key_with_unreadable_settings_counts_as_absent() -> None:
    raw = orjson.loads(ENTRY.encode())
    unreadable: list[Any] = [None, [], {"ipPolicy": "mask"}]

    for settings in unreadable:
        assert ApiKeyEntry.decode(orjson.dumps({**raw, "settings": settings})) is None


def test_changed_settings_are_noted_once() -> None:
    partner = Partner.register(UUID(int=1), "Acme Corp", "admin@acme.com", NOON)
    system = PartnerSystem.register(UUID(int=2), partner, "Website", SystemType.WEBSITE, "Main", NOON)
    assert system.settings == DEFAULT_SETTINGS
    system.pull_events()

    system.change_settings(NOON + timedelta(hours=1), EVERYTHING)
    system.change_settings(NOON + timedelta(hours=2), replace(EVERYTHING))

    assert [event.name for event in system.pull_events()] == ["PartnerSystemSettingsChanged"]
    assert (system.settings, system.updated_at) == (EVERYTHING, NOON + timedelta(hours=1))
