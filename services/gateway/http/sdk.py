"""The routes that Segment and RudderStack SDKs call: their messages are stored as events, and answered with 200."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import orjson

from services.gateway.events.decode import decode_event, decode_sdk_batch
from services.gateway.events.segment import (
    BATCH_PATHS,
    EVENT_TYPE_BY_PATH,
    IMPORT,
    MERGE,
    is_historical,
    read_sdk_messages,
    to_envelope,
)
from services.gateway.http.clock import get_receive_time
from services.gateway.http.ingestion import Ingestion
from services.gateway.http.request import GatewayRequest
from services.gateway.http.responses import render_event, render_sdk_batch, require_event


class SdkRoutes:
    """Handles the routes below `/v1`, or below the prefix of the settings."""

    def __init__(self, ingestion: Ingestion, prefix: str = "/v1") -> None:
        self._ingestion = ingestion
        self.prefix = prefix

    def handlers(self) -> Mapping[str, Callable[[GatewayRequest], Awaitable[bytes]]]:
        """Return the handlers by path."""
        singles = {
            f"{self.prefix}/{name}": partial(self.message, event_type=event_type)
            for name, event_type in {**EVENT_TYPE_BY_PATH, MERGE: MERGE}.items()
        }
        return {**singles, **{f"{self.prefix}/{name}": self.batch for name in BATCH_PATHS}}

    async def message(self, request: GatewayRequest, event_type: str) -> bytes:
        """Store one message of an SDK.

        200 says that the message is on disk. Its type is that of the path. A repeated `messageId` is not stored twice.
        """
        body = await self._ingestion.read_body(request)
        received_at = get_receive_time()
        messages, _, write_key = read_sdk_messages(decode_event(body), event_type)
        sender = await self._ingestion.authenticate(request, write_key, received_at)
        decided = await self._ingestion.decide([to_envelope(message, event_type) for message in messages], sender)
        event = require_event(decided[0])
        result = await self._ingestion.submit(decided, sender)
        answer = render_event(event, result, is_dry_run=sender.is_dry_run)
        return orjson.dumps({"success": True, **orjson.loads(answer)})

    async def batch(self, request: GatewayRequest) -> bytes:
        """Store many messages of an SDK, of any types.

        200 says that every message not listed as refused is on disk. A bad message never causes an error for the whole
        batch, because an SDK would drop all of its messages.
        """
        body = await self._ingestion.read_body(request)
        received_at = get_receive_time()
        decoded = decode_sdk_batch(body, self._ingestion.max_batch_events)
        messages, sent_at, write_key = read_sdk_messages(decoded, None)
        is_archive = is_historical(decoded) or request.path == f"{self.prefix}/{IMPORT}"
        sender = await self._ingestion.authenticate(request, write_key, received_at, sent_at, is_archive)
        decided = await self._ingestion.decide([to_envelope(message, None) for message in messages], sender)
        result = await self._ingestion.submit(decided, sender)
        self._ingestion.record_rejected(request, messages, decided, result)
        return render_sdk_batch(decided, result, is_dry_run=sender.is_dry_run)
