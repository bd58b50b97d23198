"""HTTP to a gateway by httpx: builds requests from posts, and reads responses."""

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
    """The address of a gateway and the API key. Raises ValueError if either cannot be one."""

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

    def make_client(self) -> httpx.Client:
        """Make a client for threads."""
        return httpx.Client(**self._get_client_options())

    def make_async_client(self) -> httpx.AsyncClient:
        """Make a client for asyncio."""
        return httpx.AsyncClient(**self._get_client_options())

    def _get_client_options(self) -> dict[str, Any]:
        return {"timeout": self.options.timeout_s, **self.httpx_options}

    def build_request(self, post: Post) -> dict[str, Any]:
        """Build the arguments of a client's `post`."""
        content, encoding = post.encode_body(datetime.now(UTC), self.options.gzip_from_bytes)
        headers = {"X-Api-Key": self.api_key, "User-Agent": _NAME, "Content-Type": "application/json"}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        return {"url": self.url.rstrip("/") + _PATH, "content": content, "headers": headers}


def read_response(response: httpx.Response) -> GatewayResponse:
    """Convert a response; a body that is not JSON has no payload."""
    try:
        payload = response.json()
    except ValueError:
        payload = None
    retry_after = response.headers.get("Retry-After", "")
    shown_text = response.text[:_SHOWN_CHARACTERS] if payload is None else ""
    retry_after_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    return GatewayResponse(response.status_code, payload, retry_after_s, f"{response.status_code} {shown_text}".strip())


def make_no_response(error: httpx.HTTPError) -> GatewayResponse:
    """Make the response of a request that got none. It is unknown whether the request arrived."""
    return GatewayResponse(0, error_text=repr(error))
