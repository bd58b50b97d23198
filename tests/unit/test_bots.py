"""User-Agents of people beside those of bots. The devices and apps are real ones whose name a list of bots has, too."""

import crawleruseragents
import pytest

from services.gateway.events import bots
from services.gateway.events.bots import is_bot

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
PEOPLE = [
    f"Mozilla/5.0 (Linux; Android 9; CUBOT_X19) {WEBKIT} Chrome/120.0.0.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 10; CUBOT KINGKONG 5 Build/QP1A) {WEBKIT} Chrome/90.0 Mobile Safari/537.36",
    "Dalvik/2.1.0 (Linux; U; Android 9; CUBOT J5 Build/PPR1.180610.011)",
    f"Mozilla/5.0 (Linux; Android 8.1.0; ViewSonic VPAD10) {WEBKIT} Chrome/96.0.4664.104 Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 5.1; SuperSonic SC-1010JB) {WEBKIT} Chrome/80.0 Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 4.1.1; J Butterfly Build/JRO03C) {WEBKIT} Chrome/30.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 6.0; Wiko FEVER) {WEBKIT} Chrome/99.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 6.0; Fever SE Build/MRA58K) {WEBKIT} Chrome/99.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Windows NT 6.1; WOW64) {WEBKIT} Chrome/49.0 Safari/537.36 SE 2.X MetaSr 1.0 Sogou Explorer/8.5",
    f"Mozilla/5.0 (Linux; Android 11; V2055A; wv) {WEBKIT} Version/4.0 Chrome/87 Safari/537.36 SogouMobileBrowser/6",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Fluid/2.1.2 Safari/605.1.15",
    f"Mozilla/5.0 (Linux; Android 10; SM-A205U; wv) {WEBKIT} Chrome/80.0 Mobile Safari/537.36 WhatsApp/2.20.64",
    f"Mozilla/5.0 (Linux; Android 10; SM-A205U; wv) {WEBKIT} Version/4.0 Chrome/80.0 Mobile Safari/537.36 Viber/13.3.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 PayPal/77",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 [FBAN/FBIOS;FBAV/430.0]",
    f"Mozilla/5.0 (Linux; Android 13; Pixel 7) {WEBKIT} Chrome/116.0 Mobile Safari/537.36 BytedanceWebview/d8a21c6",
    f"Mozilla/5.0 (Linux; Android 11; KFTRWI) {WEBKIT} Silk/94.2.4 like Chrome/94.0 Safari/537.36",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} coc_coc_browser/110.0.148 Chrome/104.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
    f"Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) {WEBKIT} Version/6.0 TV Safari/538.1",
]
BOTS = [
    "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)",
    "WhatsApp/2.19.175 A",
    "Viber/6.6.0",
    "Mozilla/5.0 (compatible; Yeti/1.1; +http://naver.me/spd)",
    "Mozilla/5.0 (compatible; Linux x86_64; Mail.RU_Bot/2.0; +http://go.mail.ru/help/robots)",
    f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {WEBKIT} Chrome/99 Mobile Safari/537.36 (compatible; Googlebot/2.1)",
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/120.0.0.0 Safari/537.36",
    "Fever/1.38 (Feed Parser; http://feedafever.com; Allow like Gecko)",
    "Overcast/1.0 Podcast Sync (+http://overcast.fm/)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "curl/8.5.0",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_a_device_or_an_app_with_the_name_of_a_bot_is_a_person(agent: str) -> None:
    assert not is_bot(agent)


@pytest.mark.parametrize("agent", BOTS)
def test_a_bot_is_a_bot(agent: str) -> None:
    assert is_bot(agent)


def test_nearly_all_examples_of_the_list_are_bots() -> None:
    entries = crawleruseragents.CRAWLER_USER_AGENTS_DATA
    examples = {agent: entry["pattern"] for entry in entries for agent in entry.get("instances", ())}

    missed = {agent: pattern for agent, pattern in examples.items() if not is_bot(agent)}

    assert len(examples) > 1_000
    assert set(missed.values()) <= bots.NAMES_OF_PEOPLE
    assert len(missed) <= 20


def test_every_name_of_people_is_still_in_the_list() -> None:
    """Else a newer list has renamed an entry, and it would be a sure sign of a bot again."""
    known = {entry["pattern"] for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA}

    assert known >= bots.NAMES_OF_PEOPLE
