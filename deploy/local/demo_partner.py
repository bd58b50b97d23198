"""Registers a demo partner, a partner system with an API key, and an event structure, once, by the routes of admin."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from deploy.local import LocalStackError
from deploy.local.layout import Layout
from deploy.local.server import LOOPBACK, random_secret, write_private

EVENT_NAME = "purchase"
STRUCTURE = {
    "eventName": EVENT_NAME,
    "description": "Someone paid for something",
    "schema": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["orderId", "amount", "currency"],
        "properties": {
            "orderId": {"type": "string", "minLength": 1, "maxLength": 64},
            "amount": {"type": "number", "minimum": 0},
            "currency": {"type": "string", "minLength": 3, "maxLength": 3},
            "items": {"type": "integer", "minimum": 1},
        },
    },
    "publish": True,
}
EXAMPLE = {"orderId": "A-1001", "amount": 49.9, "currency": "EUR", "items": 2}


def ensure(layout: Layout, say: Callable[[str], None]) -> dict[str, str]:
    """Return the values of `credentials.env`, after making the demo partner if this database does not have it yet."""
    admin = _Admin(f"http://{LOOPBACK}:{layout.ports['admin']}", layout.secrets["admin_token"])
    known = read_credentials(layout.credentials)
    system, key = known.get("TRACKING_DEMO_SYSTEM_ID", ""), known.get("TRACKING_DEMO_API_KEY", "")
    if not (system and key and admin.has(f"/api/partnersystems/{system}")):
        system, key = _create(admin)
        say("demo       partner, system, key and event structure created")
    values = {
        "TRACKING_GATEWAY_URL": f"http://{LOOPBACK}:{layout.ports['gateway']}",
        "TRACKING_ADMIN_URL": admin.url,
        "TRACKING_QUERY_URL": f"http://{LOOPBACK}:{layout.ports['query']}",
        "TRACKING_ADMIN_TOKEN": admin.token,
        "TRACKING_DEMO_API_KEY": key,
        "TRACKING_DEMO_SYSTEM_ID": system,
    }
    write_private(layout.credentials, "".join(f"{name}={value}\n" for name, value in values.items()))
    return values


def read_credentials(path: Path) -> dict[str, str]:
    """Empty when there are none yet."""
    if not path.exists():
        return {}
    lines = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def _create(admin: "_Admin") -> tuple[str, str]:
    # a partner whose key got lost before it was written down keeps the plain address
    partner = admin.post("/api/partners", {"name": "Demo", "email": "demo@example.org"})
    if partner is None:
        mark = random_secret(6).lower()
        partner = admin.post("/api/partners", {"name": f"Demo {mark}", "email": f"demo-{mark}@example.org"})
    if partner is None:
        raise LocalStackError("the admin service refuses to create a demo partner")
    wish = {"partnerId": partner["id"], "name": "Demo website", "type": 1, "description": "Made by make up"}
    system = admin.post("/api/partnersystems", wish)
    if system is None:
        raise LocalStackError("the admin service refuses to create a demo system")
    admin.post("/api/eventstructures", STRUCTURE)
    return str(system["id"]), str(system["apiKey"])


class _Admin:
    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def has(self, path: str) -> bool:
        """Whether this resource exists."""
        return self._ask("GET", path, None, expected=404) is not None

    def post(self, path: str, body: object) -> dict[str, Any] | None:
        """Return the JSON of the created object; None when it exists already."""
        return self._ask("POST", path, body, expected=409)

    def _ask(self, method: str, path: str, body: object, *, expected: int) -> dict[str, Any] | None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, headers, method=method)  # noqa: S310 - the loopback address of admin
        try:
            with urlopen(request, timeout=20) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)
                return answer
        except HTTPError as error:
            with error:
                if error.code == expected:
                    return None
                words = error.read(2000).decode(errors="replace")
            raise LocalStackError(f"admin: {method} {path} answered {error.code}: {words}") from error
