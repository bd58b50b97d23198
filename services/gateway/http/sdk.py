"""The routes that Segment and RudderStack SDKs call: their messages in, our events stored, 200 out."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import orjson

from services.gateway.events import decode, segment
from services.gateway.http import clock
from services.gateway.http.ingestion import Ingestion
from services.gateway.http.request import GatewayRequest
from services.gateway.http.responses import event_of, sdk_answer, single_answer


class SdkRoutes:
    """Handles `/v1/*`, or what the settings call it."""

    def __init__(self, intake: Ingestion, prefix: str = "/v1") -> None:
        self._intake = intake
        self.prefix = prefix

    def handlers(self) -> Mapping[str, Callable[[GatewayRequest], Awaitable[bytes]]]:
        """By path."""
        singles = {f"{self.prefix}/{name}": partial(self.message, kind=kind) for name, kind in segment.KINDS.items()}
        return {**singles, **{f"{self.prefix}/{name}": self.batch for name in segment.BATCH_NAMES}}

    async def message(self, request: GatewayRequest, kind: str) -> bytes:
        """Store one message of an SDK.

        200 says that it is on disk. The type is that of the path; `messageId` makes a repeat harmless.
        """
        body = await self._intake.body(request)
        received_at = clock.now()
        messages, _, write_key = segment.messages_of(decode.decode_single(body), kind)
        sender = await self._intake.sender(request, write_key, received_at)
        decided = await self._intake.decide([segment.envelope(message, kind) for message in messages], sender)
        event = event_of(decided[0])
        outcome = await self._intake.store(decided, sender)
        answer = single_answer(event, outcome, is_dry_run=sender.is_dry_run)
        return orjson.dumps({"success": True, **orjson.loads(answer)})

    async def batch(self, request: GatewayRequest) -> bytes:
        """Store many messages of an SDK, of any types.

        200 says that every message not listed as refused is on disk. A bad message never refuses the others: an SDK
        would drop them all.
        """
        body = await self._intake.body(request)
        received_at = clock.now()
        messages, sent_at, write_key = segment.messages_of(decode.decode_single(body), None)
        sender = await self._intake.sender(request, write_key, received_at, sent_at)
        decided = await self._intake.decide([segment.envelope(message, None) for message in messages], sender)
        outcome = await self._intake.store(decided, sender)
        self._intake.note_refused(request, messages, decided, outcome)
        return sdk_answer(decided, outcome, is_dry_run=sender.is_dry_run)
