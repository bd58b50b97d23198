"""A site whose pages have the tracker script, shown by Chromium, and what became of their events."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from tests.support.admin_api import a_system, administrator
from tests.support.polling import PATIENCE_S, until
from tests.support.service_processes import ServiceProcesses
from tests.support.stack import Stack

SITE = "shop.example"
PAGE = """<!doctype html><title>{title}</title><body><a href="/next">next</a>
<script src="{gateway}/v1/tracker.js" data-key="{key}" {options}></script></body>"""


class Site(ThreadingHTTPServer):
    """Serves `page` under every path; `chromium` is the browser's program."""

    page = ""
    chromium = ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The page."""
        assert isinstance(self.server, Site)
        body = self.server.page.replace("{title}", f"Title of {self.path}").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


async def a_key(services: ServiceProcesses, **settings: Any) -> str:
    async with administrator(services) as admin:
        system = await a_system(admin)
        if settings:
            changed = await admin.patch(f"/api/partnersystems/{system['id']}", json={"settings": settings})
            assert changed.status_code == 200, changed.text
    return str(system["apiKey"])


@asynccontextmanager
async def browsing(site: Site) -> AsyncIterator[Browser]:
    """A headless browser that knows the site by its name."""
    address = f"MAP {SITE}:80 127.0.0.1:{site.server_address[1]}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=site.chromium,
            args=["--no-sandbox", f"--host-resolver-rules={address}"],
            timeout=PATIENCE_S * 1000,
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(
    site: Site, services: ServiceProcesses, key: str, options: str = "", signal: str = "", path: str = "/"
) -> AsyncIterator[Page]:
    """A page with the script; `signal` runs before it."""
    site.page = PAGE.replace("{gateway}", services.url("gateway")).replace("{key}", key).replace("{options}", options)
    async with browsing(site) as browser:
        context = await browser.new_context(user_agent="Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36")
        if signal:
            await context.add_init_script(signal)
        context.set_default_timeout(PATIENCE_S * 1000)
        page = await context.new_page()
        await page.goto(f"http://{SITE}{path}")
        yield page


async def events(stack: Stack) -> list[dict[str, Any]]:
    """All that is stored, in the order in which it happened."""
    owner = await stack.write()
    rows = await owner.fetch(
        "select event_name, event_type, anonymous_id, user_id, message_id, event_properties::text as properties,"
        " context::text as context from write.tracking_events order by original_timestamp, message_id"
    )
    return [{**row, "properties": json.loads(row["properties"]), "context": json.loads(row["context"])} for row in rows]


async def seen(stack: Stack, number: int) -> list[dict[str, Any]]:
    """Once there are so many."""

    async def ask() -> list[dict[str, Any]]:
        return await events(stack)

    return await until(ask, lambda found: len(found) >= number)
