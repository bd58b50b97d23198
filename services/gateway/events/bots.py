"""Recognizes crawlers by their User-Agent, with the list of the crawler-user-agents project."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import crawleruseragents
import re2

_MAX_CHARACTERS = 1_000
# An expression that runs in linear time replaces well over a thousand expressions for Python's `re`.
_OPTIONS = re2.Options()
_OPTIONS.max_mem = 256 * 1024 * 1024  # of which it takes a tenth; by default it would give up its fast way
# Entries of the list that are names of devices and of apps with a browser in them, too: a ViewSonic tablet, the browser
# of Sogou, a page opened inside WhatsApp. Found by sending the names that Matomo's device detector knows of devices,
# browsers and apps through the list.
NAMES_OF_PEOPLE = frozenset(
    {
        *("Butterfly", "Expanse", "Fever", "Fluid", "Magellan", "Sonic", "Yeti", "speedy"),
        *("Sogou", "WhatsApp", "Viber", "Overcast\\/", "Instapaper\\/", "Podimo", "PayPal\\/", "mail\\.ru", "Daum\\/"),
    }
)
# What a browser says of its system and its engine; a bot with one of these names says less, or where to read about it.
_BROWSER = re2.compile(  # type: ignore[no-untyped-call]
    r"^(?:Mozilla/5\.0|Dalvik/[0-9.]+) \((?:iPhone|iPad|iPod|Windows NT|Macintosh|X11|SMART-TV|Linux)"
    r"[^()]*\)(?:$| (?:AppleWebKit|Gecko)/)"
)
_CRAWLERS = [entry["pattern"] for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA]


def _join(patterns: Iterable[str]) -> Any:
    return re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), _OPTIONS)  # type: ignore[no-untyped-call]


_SURE = _join(pattern for pattern in _CRAWLERS if pattern not in NAMES_OF_PEOPLE)
_UNSURE = _join(pattern for pattern in _CRAWLERS if pattern in NAMES_OF_PEOPLE)


@lru_cache(maxsize=10_000)
def is_bot(user_agent: str) -> bool:
    """Return whether the User-Agent matches an entry of the list; any other one is taken for a person's.

    An entry that is the name of a device or of an app as well does not make a bot of a browser.
    """
    user_agent = user_agent[:_MAX_CHARACTERS]
    if _SURE.search(user_agent):
        return True
    return bool(_UNSURE.search(user_agent)) and not (
        _BROWSER.search(user_agent) and "http" not in user_agent and "compatible;" not in user_agent
    )
