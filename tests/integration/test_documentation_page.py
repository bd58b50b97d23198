"""The documentation page in a browser: it asks nobody else, and has nothing that leads to another host."""

from functools import partial
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Request, async_playwright

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S
from tests.support.service_processes import run_services
from tests.support.stack import Stack

VENDOR = ("ask ai", "scalar", "deploy", "share", "generate sdk", "developer tools", "mcp", "api client")
LINKS = "Array.from(document.querySelectorAll('a[href]'), link => link.href)"
BUTTONS = """Array.from(document.querySelectorAll('a, button, [role=button]'),
    one => [one.innerText, one.title, one.ariaLabel].join(" "))"""


def note(asked: list[str], request: Request) -> None:
    asked.append(request.url)


@pytest.mark.parametrize("service", ["gateway", "query", "admin"])
async def test_the_page_asks_nobody_else_and_leads_to_nobody_else(stack: Stack, chromium: str, service: str) -> None:
    async with run_services(stack, service) as services, async_playwright() as playwright:
        url = services.url(service)
        # also by a name that is not localhost, where the page's own tools would hide
        other = url.replace("127.0.0.1", "docs.example")
        rule = "--host-resolver-rules=MAP docs.example 127.0.0.1"
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", rule], timeout=PATIENCE_S * 1000
        )
        try:
            for address in (url, other):
                asked: list[str] = []
                page = await browser.new_page()
                page.set_default_timeout(PATIENCE_S * 1000)
                page.on("request", partial(note, asked))
                await page.goto(f"{address}/scalar/v1")
                await page.get_by_role("heading", name="Volcanion Tracking").first.wait_for()
                await page.wait_for_load_state("networkidle")
                links, buttons = await page.evaluate(LINKS), await page.evaluate(BUTTONS)
                elsewhere = {one for one in (*asked, *links) if not one.startswith((address, "data:", "blob:"))}

                assert elsewhere == set()
                assert len(links) + len(buttons) > 10
                assert [text for text in buttons for word in VENDOR if word in text.lower()] == []
                assert await page.evaluate("window.open('https://example.com')") is None
                await page.close()
        finally:
            await browser.close()


async def test_the_policy_of_the_page_names_no_other_host(stack: Stack) -> None:
    async with run_services(stack, "query") as services, http_client(base_url=services.url("query")) as client:
        answer = await client.get("/scalar/v1")

    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert not any(urlsplit(word).netloc for word in policy.replace(";", " ").split())
