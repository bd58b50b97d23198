"""A gateway's address in the words of httpx: requests out of posts, answers out of responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from tracking_client.delivery import GatewayResponse, Post
from tracking_client.options import Options

_PATH = "/api/events/batch"
_NAME = "volcanion-tracking-client"
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class GatewayEndpoint:
    """Where to send, and as whom. Raises ValueError for what can be no address or no key."""

    url: str
    api_key: str = field(repr=False)
    options: Options
    httpx_options: Mapping[str, Any]

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https address: {self.url!r}")
        if not self.api_key.isascii() or not self.api_key.isprintable() or not self.api_key.strip():
            raise ValueError("the API key must be printable ASCII")

    def client(self) -> httpx.Client:
        """For threads."""
        return httpx.Client(**self._settings())

    def async_client(self) -> httpx.AsyncClient:
        """For asyncio."""
        return httpx.AsyncClient(**self._settings())

    def _settings(self) -> dict[str, Any]:
        return {"timeout": self.options.timeout_s, **self.httpx_options}

    def request(self, post: Post) -> dict[str, Any]:
        """The arguments of a client's `post`."""
        content, encoding = post.body(datetime.now(UTC), self.options.gzip_from_bytes)
        headers = {"X-Api-Key": self.api_key, "User-Agent": _NAME, "Content-Type": "application/json"}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        return {"url": self.url.rstrip("/") + _PATH, "content": content, "headers": headers}


def read_response(response: httpx.Response) -> GatewayResponse:
    """The whole of a response."""
    try:
        payload = response.json()
    except ValueError:
        payload = None
    wish = response.headers.get("Retry-After", "")
    shown = response.text[:_SHOWN_CHARACTERS] if payload is None else ""
    wish_s = float(wish) if wish.isascii() and wish.isdigit() else None
    return GatewayResponse(response.status_code, payload, wish_s, f"{response.status_code} {shown}".strip())


def make_no_response(error: httpx.HTTPError) -> GatewayResponse:
    """Nobody knows whether the request arrived."""
    return GatewayResponse(0, trouble=repr(error))
