"""Sends with a browser's SDK in Chromium, from a page of another origin than the gateway's; the calls are on stdin.

Without an argument it is analytics.js; `python -m tests.sdks.browser batching` has it collect messages into batches,
`… rudderstack` takes RudderStack's SDK.

Prints `{"version": …, "messageIds": […]}`, an id for each call. Exit 1 if the SDK gave up on anything.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
_PACKAGES = FOLDER / "node/node_modules"
SCRIPTS = {
    "analytics": _PACKAGES / "@segment/analytics-next/dist/umd",
    "rudderstack": _PACKAGES / "@rudderstack/analytics-js/dist/npm/modern/bundled/umd",
}
_LOCKED = "node_modules/@rudderstack/analytics-js"
SITE = "shop.example"
TIMEOUT_S = 170


class Site(SimpleHTTPRequestHandler):
    """The page with its scripts, and the SDKs as their packages have them."""

    def translate_path(self, path: str) -> str:
        """Where the file is."""
        name = path.partition("?")[0].lstrip("/")
        folder = SCRIPTS.get(name.partition("/")[0], FOLDER / "browser")
        return str(folder / (name.rpartition("/")[2] or "page.html"))

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[int]:
    """The port on which the page is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(FOLDER)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def main() -> int:
    """Open a page that makes the calls."""
    task = json.load(sys.stdin) | {"isBatching": "batching" in sys.argv}
    is_rudderstack = "rudderstack" in sys.argv
    with site() as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            # of root, Chromium will have no sandbox; the address stands in no name service
            args=["--no-sandbox", f"--host-resolver-rules=MAP {SITE}:80 127.0.0.1:{port}"],
        )
        # a headless browser says so in its User-Agent, and would be counted as the bot that it is
        agent = f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{browser.version}"
        page = browser.new_context(user_agent=f"{agent} Safari/537.36").new_page()
        page.goto(f"http://{SITE}/{'rudderstack.html' if is_rudderstack else ''}")
        page.set_default_timeout(TIMEOUT_S * 1000)
        result = page.evaluate("task => send(task)", task)
        browser.close()
    failures = result.pop("failures")
    if is_rudderstack:
        result["version"] = json.loads((_PACKAGES / ".package-lock.json").read_text())["packages"][_LOCKED]["version"]
    print(json.dumps(result))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
