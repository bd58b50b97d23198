"""The values of an event that remain after a system's privacy rules, and the address that counts as the client's."""

from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest

from services.gateway.events.bots import is_bot
from services.gateway.events.privacy import PersonalData, apply_ip_policy, apply_privacy
from tracking.domain.system_settings import IpPolicy, PrivacyRule, SystemSettings

SYSTEM = UUID(int=7)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("::1/128")]


def after(*rules: PrivacyRule, **parts: Any) -> PersonalData:
    event = PersonalData(**{"user_id": "u", "anonymous_id": "a", "properties": {}, "context": None, **parts})
    return apply_privacy(SystemSettings(privacy_rules=rules), SYSTEM, event, None, None)[0]


@pytest.mark.parametrize(
    ("address", "policy", "kept"),
    [
        ("203.0.113.77", "truncate", "203.0.113.0"),
        ("203.0.113.77", "keep", "203.0.113.77"),
        ("203.0.113.77", "drop", None),
        ("2001:db8:1:2:3::4", "truncate", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "truncate", "203.0.113.0"),
        (" [2001:db8::1] ", "keep", "2001:db8::1"),
        ("no address", "keep", None),
        ("", "truncate", None),
    ],
)
def test_an_address_is_kept_as_the_policy_says(address: str, policy: IpPolicy, kept: str | None) -> None:
    assert apply_ip_policy(address, policy) == kept


def test_what_is_dropped_hashed_and_cut() -> None:
    event = after(
        PrivacyRule("$.userId", "hash"),
        PrivacyRule("$.anonymousId", "drop"),
        PrivacyRule("$.properties.items[*].note", "drop"),
        PrivacyRule("$.properties.zip", "truncate", 2),
        PrivacyRule("$.properties.nothing.there", "drop"),
        PrivacyRule("$.context.traits.email", "hash"),
        properties={"items": [{"note": "x", "sku": 1}, {"sku": 2}, "no object"], "zip": "12345"},
        context={"traits": {"email": "a@b.c", "plan": "pro"}},
    )

    assert event.anonymous_id is None
    assert event.user_id is not None
    assert len(event.user_id) == 32
    assert event.properties == {"items": [{"sku": 1}, {"sku": 2}, "no object"], "zip": "12"}
    assert event.context["traits"]["plan"] == "pro"
    assert "a@b.c" not in str(event.context)


def test_a_hash_is_the_same_within_a_system_alone() -> None:
    rule = SystemSettings(privacy_rules=(PrivacyRule("$.userId", "hash"),))
    one, again, other = [
        apply_privacy(rule, system, PersonalData("u", None, {}, None), None, None)[0].user_id
        for system in (SYSTEM, SYSTEM, UUID(int=8))
    ]

    assert one == again != other


def test_every_item_of_a_list_can_go() -> None:
    assert after(PrivacyRule("$.properties.mails[*]", "drop"), properties={"mails": [1, 2, 3]}).properties == {
        "mails": []
    }
    assert after(PrivacyRule("$.properties", "drop"), properties={"a": 1}).properties is None


def test_numbers_and_objects_are_cut_and_hashed_as_their_json() -> None:
    cut = after(PrivacyRule("$.properties.n", "truncate", 3), properties={"n": 123456}).properties
    nulls = after(PrivacyRule("$.properties.n", "hash"), properties={"n": None}).properties

    assert cut == {"n": "123"}
    assert nulls == {"n": None}


@pytest.mark.parametrize(
    ("context", "address", "agent", "kept", "bot"),
    [
        (None, None, None, None, False),
        (None, "203.0.113.77", CHROME, {"ip": "203.0.113.0", "userAgent": CHROME}, False),
        (None, "203.0.113.77", GOOGLE, {"ip": "203.0.113.0", "userAgent": GOOGLE}, True),
        ({"ip": "198.51.100.9"}, "203.0.113.77", None, {"ip": "198.51.100.0"}, False),
        ({"userAgent": GOOGLE}, None, None, {"userAgent": GOOGLE}, True),
        ({"userAgent": CHROME}, "203.0.113.77", GOOGLE, {"userAgent": CHROME, "ip": "203.0.113.0"}, False),
        ({"ip": 7, "userAgent": ["x"]}, None, None, {"userAgent": ["x"]}, False),
    ],
)
def test_the_surroundings_are_the_sdks_own_else_the_browsers(
    context: Any, address: str | None, agent: str | None, kept: Any, bot: bool
) -> None:
    event, is_sent_by_bot = apply_privacy(
        SystemSettings(), SYSTEM, PersonalData("u", None, {}, context), address, agent
    )

    assert (event.context, is_sent_by_bot) == (kept, bot)


def test_people_are_no_bots() -> None:
    safari = (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile Safari/604.1"
    )
    assert [is_bot(agent) for agent in (CHROME, safari, "", "x" * 100_000)] == [False] * 4
    assert [is_bot(agent) for agent in (GOOGLE, "curl/8.5.0", "python-requests/2.32.0", "HeadlessChrome/120.0")] == [
        True
    ] * 4
