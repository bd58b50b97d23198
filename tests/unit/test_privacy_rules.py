"""Privacy rules, which drop, hash or truncate a value: their paths and their parameters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.errors import Malformed
from tracking.domain.system_settings import PRIVACY_PATH_ROOTS, PrivacyRule


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$.userId", ("userId",)),
        ("$['anonymousId']", ("anonymousId",)),
        ("$.properties.email", ("properties", "email")),
        ("$.properties.$browser", ("properties", "$browser")),
        ("$.properties.user-email", ("properties", "user-email")),
        ("$.properties.straße", ("properties", "straße")),
        ("$.context.traits.email", ("context", "traits", "email")),
        ("$.properties.items[*].note", ("properties", "items", None, "note")),
        ("$.properties.grid[*][*]", ("properties", "grid", None, None)),
        ("$.properties['a.b']['c d']", ("properties", "a.b", "c d")),
        (r"$.properties['it\'s \\ here']", ("properties", r"it's \ here")),
        ("$.properties['[*]']", ("properties", "[*]")),
        ("$['properties']['*'].x", ("properties", "*", "x")),
    ],
)
def test_a_path_is_split_into_steps(path: str, steps: tuple[str | None, ...]) -> None:
    assert PrivacyRule(path, "hash").segments == steps


@pytest.mark.parametrize(
    "path",
    [
        "",
        "$",
        "userId",
        ".userId",
        "$userId",
        "$.",
        "$..email",
        "$.*",
        "$[*]",
        "$.eventName",
        "$.messageId",
        "$.userid",
        "$.userId.x",
        "$.userId[*]",
        "$.properties[*]",
        "$.context[*].x",
        "$.properties.",
        "$.properties.a b",
        "$.properties.0",
        "$.properties.a[0]",
        "$.properties.a[?(@.x)]",
        "$.properties.a[*",
        "$.properties.a]",
        '$.properties["a"]',
        "$.properties['']",
        "$.properties['a",
        "$.properties['a'b']",
        r"$.properties['a\n']",
        "$.properties['a\x00']",
        "$.properties['\ud800']",
        "$.properties.a ",
        " $.properties.a",
        "$.properties.a\n",
        "$.properties." + "a" * 500,
        "$.properties",
        "$.context",
    ],
)
def test_such_a_path_is_rejected(path: str) -> None:
    with pytest.raises(Malformed) as rejected:
        PrivacyRule(path, "hash")

    assert [fault["field"] for fault in rejected.value.details] == ["path"]


def test_properties_and_context_can_be_dropped_whole_but_not_cut() -> None:
    assert PrivacyRule("$.context", "drop").segments == ("context",)
    for action in ("hash", "truncate"):
        with pytest.raises(Malformed):
            PrivacyRule("$.properties", action)


@given(st.text(max_size=40))
def test_a_path_is_read_or_rejected(text: str) -> None:
    for path in (text, "$" + text, "$.properties" + text, f"$.properties['{text}']"):
        try:
            rule = PrivacyRule(path, "drop")
        except Malformed:
            continue
        assert rule.segments[0] in PRIVACY_PATH_ROOTS
        assert "".join(step or "" for step in rule.segments).encode()


def test_truncate_keeps_four_characters_unless_it_says_how_many() -> None:
    assert PrivacyRule("$.userId", "truncate").length == 4
    assert PrivacyRule("$.userId", "truncate", 1000).length == 1000
    assert PrivacyRule("$.userId", "hash").length is None


@pytest.mark.parametrize(
    ("action", "length", "field"),
    [
        ("truncate", 0, "length"),
        ("truncate", 1001, "length"),
        ("truncate", True, "length"),
        ("truncate", 2.0, "length"),
        ("hash", 4, "length"),
        ("drop", 4, "length"),
        ("mask", None, "action"),
        ("", None, "action"),
        (None, None, "action"),
    ],
)
def test_such_a_rule_is_rejected(action: Any, length: Any, field: str) -> None:
    with pytest.raises(Malformed) as rejected:
        PrivacyRule("$.userId", action, length)

    assert [fault["field"] for fault in rejected.value.details] == [field]
