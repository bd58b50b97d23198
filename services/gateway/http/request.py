"""Requests as bytes: headers are parsed once, and the body is read within limits of time and size."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import Receive, Scope

from services.gateway.http.inflate import inflate
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.credentials import has_api_key_shape
from tracking.domain.errors import Malformed, TooLarge, Unavailable
from tracking.infra import correlation

_WANTED = frozenset(
    {
        b"x-api-key",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"x-correlation-id",
        b"idempotency-key",
        b"origin",
        b"user-agent",
    }
)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_MAX_DECLARED_BYTES = 2**63 - 1
_LARGE_BYTES = 1024 * 1024
# An empty JSON object takes 2 bytes in the body and 64 in memory, so the number of objects and arrays is limited too.
_MAX_CONTAINERS = 500_000


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of a request in bytes and events. `bodies_bytes` is for all bodies that are being read."""

    body_bytes: int
    bodies_bytes: int
    inflated_bytes: int
    inflation_ratio: int
    event_bytes: int
    batch_events: int


class ClientDisconnected(Exception):
    """The client closed the connection before its request was complete, so no response is sent."""


class BodyBudget:
    """The bytes that bodies in progress may take together, so that many slow senders cannot fill the memory.

    What is reserved in a budget that lies within another is reserved there too.
    """

    def __init__(self, free_bytes: int, within: "BodyBudget | None" = None) -> None:
        self._total_bytes = self._free_bytes = free_bytes
        self._within = within

    @property
    def is_unused(self) -> bool:
        """Whether nothing is reserved."""
        return self._free_bytes == self._total_bytes

    def reserve(self, size: int) -> None:
        """Reserve bytes. Raises Unavailable if there are not enough."""
        if size > self._free_bytes:
            raise Unavailable("overloaded", "More bodies are under way than this process may hold.", 1)
        if self._within is not None:
            self._within.reserve(size)
        self._free_bytes -= size

    def release(self, size: int) -> None:
        """Return the reserved bytes."""
        self._free_bytes += size
        if self._within is not None:
            self._within.release(size)


class RequestHead:
    """The headers of a request and its query, as far as the gateway reads them."""

    __slots__ = ("_headers", "_query", "correlation_id")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> None:
        self._query = query
        self._headers = {name: value for name, value in headers if name in _WANTED}
        given = self._headers.get(b"x-correlation-id")
        self.correlation_id = correlation.accept_or_generate(given.decode("latin-1") if given is not None else None)

    @property
    def origin(self) -> str | None:
        """The origin of the sending page, if a browser names one."""
        value = self._headers.get(b"origin")
        return None if value is None else value.decode("latin-1")

    @property
    def user_agent(self) -> str | None:
        """The User-Agent, as it was sent."""
        value = self._headers.get(b"user-agent")
        return None if value is None else value.decode("latin-1")

    @property
    def is_uncompressed(self) -> bool:
        """Whether the body is sent without compression."""
        return b"content-encoding" not in self._headers

    def find_api_key(self) -> str | None:
        """Return the key from `X-Api-Key`, `Authorization` (Bearer, or Basic with the key as the user) or the query.

        Credentials that do not look like a key (a site may have a password of its own) yield to a key elsewhere. None
        if there is no key.
        """
        value = self._headers.get(b"x-api-key")
        if value is not None:
            return value.decode("latin-1").strip()
        value = self._headers.get(b"authorization")
        given = _from_authorization(value) if value is not None else None
        if self._query and not (given and has_api_key_shape(given)):
            parameters = parse_qs(self._query.decode("latin-1"))
            for name in ("apiKey", "writeKey"):
                if name in parameters:
                    return parameters[name][0]
        return given

    def is_user_of_site(self, given: str) -> bool:
        """Return whether what `find_api_key` found belongs to a site's own password, so the key may be in the body."""
        if given.startswith("sk_") or b"x-api-key" in self._headers:
            return False
        value = self._headers.get(b"authorization", b"")
        return value[:6].lower() == b"basic " and _from_authorization(value) == given

    @property
    def is_dry_run(self) -> bool:
        """Return whether the query contains `dryRun=true`. Raises Malformed for a value that is not a boolean."""
        if b"dryRun" not in self._query:
            return False
        given = parse_qs(self._query.decode("latin-1"), keep_blank_values=True).get("dryRun", ["false"])[-1].lower()
        if given not in _BOOLEANS:
            fault = {"field": "dryRun", "message": "must be true or false"}
            raise Malformed("invalid_parameter", "dryRun must be true or false.", [fault])
        return _BOOLEANS[given]

    def get_idempotency_key(self) -> str | None:
        """Return `Idempotency-Key`, which replaces a missing eventId. Raises Malformed if it is over 100 characters."""
        value = self._headers.get(b"idempotency-key")
        if not value:
            return None
        if len(value) > 100:
            fault = {"field": "Idempotency-Key", "message": "longer than 100 characters"}
            raise Malformed("invalid_event", "The Idempotency-Key header is too long.", [fault])
        return value.decode("latin-1")


class GatewayRequest(RequestHead):
    """One request on the hot path."""

    __slots__ = (
        "_held",
        "_receive",
        "all_headers",
        "declared_bytes",
        "is_authenticated",
        "is_body_read",
        "is_from_browser",
        "path",
        "peer_address",
        "raw_body",
        "rejection_owner",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope["headers"], scope["query_string"])
        self._held: tuple[BodyBudget, int] | None = None
        self._receive = receive
        self.all_headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        self.path: str = scope["path"]
        self.is_body_read = False
        self.raw_body: bytes | None = None
        self.declared_bytes: int | None = None
        self.is_authenticated = False
        # The sender to whom rejected events belong, once it is known; none for a dry run.
        self.rejection_owner: ApiKeyEntry | None = None
        client = scope.get("client")
        self.peer_address: str | None = client[0] if client else None
        # A route that only pages use sets this itself.
        self.is_from_browser = self.origin is not None

    async def read_body(
        self, limits: RequestLimits, budget: BodyBudget, spend: Callable[[int], None] | None = None
    ) -> bytes:
        """Read and return the whole body, decompressed. `spend` is told how many bytes that makes, and may raise.

        Raises TooLarge over a limit (if Content-Length is too large, before the body is read), Malformed for a body
        that is not in its Content-Encoding, Unavailable if too many bodies are in progress, ClientDisconnected (also
        when tracking.http.deadlines ended the connection).
        """
        declared = self._headers.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limits.body_bytes:
            self.declared_bytes = min(int(declared), _MAX_DECLARED_BYTES)
            raise TooLarge(
                "body_too_large", f"The body has {declared.decode()} bytes; the limit is {limits.body_bytes}."
            )
        body = await self._read(limits.body_bytes, budget)
        self.is_body_read = True
        self.raw_body = body
        body = self.raw_body = inflate(
            body, self._headers.get(b"content-encoding"), limits.inflated_bytes, limits.inflation_ratio, spend
        )
        return body

    def hold_body(self, body: bytes, budget: BodyBudget) -> None:
        """Reserve the bytes of a large body until `release_budget`, before it is parsed.

        Raises TooLarge if parsing it would take too much memory, and Unavailable if too many are under way.
        """
        if len(body) > _LARGE_BYTES:
            if body.count(b"{") + body.count(b"[") > _MAX_CONTAINERS:
                raise TooLarge("too_many_values", f"The body has more than {_MAX_CONTAINERS} objects and arrays.")
            budget.reserve(len(body))
            self._held = (budget, len(body))

    def release_budget(self) -> None:
        """Return the bytes reserved for a large body; called when the response is complete."""
        if self._held is not None:
            budget, size = self._held
            self._held = None
            budget.release(size)

    async def _read(self, limit: int, budget: BodyBudget) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                part = message.get("body", b"")
                if size + len(part) > limit:
                    raise TooLarge("body_too_large", f"The body is larger than {limit} bytes.")
                if not message.get("more_body"):
                    return b"".join((*parts, part)) if parts else part
                budget.reserve(len(part))
                size += len(part)
                parts.append(part)
        finally:
            budget.release(size)

    async def discard_rest(self, most_bytes: int, timeout_s: float) -> None:
        """Read and drop the rest of the body, within limits.

        A client that is cut off while sending never sees its response.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while most_bytes > 0:
                    message = await self._receive()
                    most_bytes -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return


def _from_authorization(value: bytes) -> str | None:
    scheme, _, credentials = value.partition(b" ")
    credentials = credentials.strip()
    if scheme.lower() == b"bearer":
        return credentials.decode("latin-1") or None
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[0].decode("latin-1") or None
        except binascii.Error:
            return None
    return None


def find_header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of a header that RequestHead does not keep; `name` is in lower case."""
    return next((value.decode("latin-1") for given, value in scope["headers"] if given == name), None)
