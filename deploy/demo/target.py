"""Finds the running system and registers a partner system for this run alone, so that every count is exact."""

import os
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from deploy.demo import DemoError
from deploy.local.demo_partner import STRUCTURE, read_credentials

CREDENTIALS = Path(__file__).parents[2] / ".local/credentials.env"
TIMEOUT_S = 30.0
_REQUIRED = ("TRACKING_GATEWAY_URL", "TRACKING_ADMIN_URL", "TRACKING_QUERY_URL", "TRACKING_ADMIN_TOKEN")
_SYSTEM_TYPE_OTHER = 99


@dataclass(frozen=True, slots=True)
class Target:
    """The addresses of one installation; `ca_file` holds the private authority of its certificate, if any."""

    gateway_url: str
    admin_url: str
    query_url: str
    admin_token: str
    demo_system_id: str | None
    ca_file: str | None

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ, file: Path = CREDENTIALS) -> "Target":
        """From the environment if it names an address, else from what `make up` wrote. Raises DemoError."""
        known: Mapping[str, str] = environment
        if not any(environment.get(name) for name in _REQUIRED):
            known = {**environment, **read_credentials(file)}
        missing = [name for name in _REQUIRED if not known.get(name)]
        if missing:
            raise DemoError(f"`make up` first, or set {', '.join(missing)} for a system that runs elsewhere")
        gateway, admin, query = (known[name].rstrip("/") for name in _REQUIRED[:3])
        return cls(
            gateway,
            admin,
            query,
            known["TRACKING_ADMIN_TOKEN"],
            known.get("TRACKING_DEMO_SYSTEM_ID") or None,
            known.get("TRACKING_CA_FILE") or None,
        )

    def httpx_options(self) -> dict[str, Any]:
        """For HTTP clients that trust `ca_file`; raises DemoError if that cannot be read."""
        try:
            trust = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise DemoError(f"TRACKING_CA_FILE {self.ca_file}: {error}") from error
        return {"verify": trust, "timeout": TIMEOUT_S, "trust_env": False}


@dataclass(frozen=True, slots=True)
class DemoSystem:
    """A new partner system and its key; `knows_new_structure` when `purchase` was registered just now."""

    id: str
    api_key: str
    name: str
    knows_new_structure: bool


async def create_system(target: Target, client: httpx.AsyncClient) -> DemoSystem:
    """Make a system named after the time, under the demo partner or, without one, under a new one."""
    admin = _Admin(target, client)
    name = f"Demo {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    partner_id = await _partner(admin, target.demo_system_id, name)
    wish = {"partnerId": partner_id, "name": name, "type": _SYSTEM_TYPE_OTHER, "description": "Made by make demo"}
    system = await admin.post("/api/partnersystems", wish)
    structure = await admin.post("/api/eventstructures", STRUCTURE, may_exist=True)
    return DemoSystem(str(system["id"]), str(system["apiKey"]), name, knows_new_structure=bool(structure))


async def _partner(admin: "_Admin", demo_system_id: str | None, name: str) -> str:
    if demo_system_id is not None:
        system = await admin.get(f"/api/partnersystems/{demo_system_id}")
        return str(system["partnerId"])
    email = f"demo-{secrets.token_hex(4)}@example.org"
    partner = await admin.post("/api/partners", {"name": name, "email": email})
    return str(partner["id"])


class _Admin:
    def __init__(self, target: Target, client: httpx.AsyncClient) -> None:
        self._url = target.admin_url
        self._headers = {"Authorization": f"Bearer {target.admin_token}"}
        self._client = client

    async def get(self, path: str) -> dict[str, Any]:
        """Return the JSON of a GET request."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: object, *, may_exist: bool = False) -> dict[str, Any]:
        """Return the JSON of the created object; empty if it exists already and that is allowed."""
        return await self._ask("POST", path, body, also=409 if may_exist else None)

    async def _ask(self, method: str, path: str, body: object, also: int | None = None) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, self._url + path, json=body, headers=self._headers)
        except httpx.HTTPError as error:
            raise DemoError(f"the admin service at {self._url} does not answer: {error!r}") from error
        if answer.status_code == also:
            return {}
        if not answer.is_success:
            raise DemoError(f"admin: {method} {path} answered {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found
