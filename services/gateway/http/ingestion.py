"""The steps shared by all routes that take events.

Read the body, authenticate the API key, decide each envelope, commit the events, and record what was rejected.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import datetime
from random import getrandbits
from typing import Any

from services.gateway.commit.dry_run import DryRunCommit
from services.gateway.commit.group_commit import GroupCommit
from services.gateway.commit.micro_batch import CommitResult
from services.gateway.commit.rejected import RejectedEventWriter
from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.rejection import Rejection
from services.gateway.events.structure_index import SchemaNotLoaded
from services.gateway.http.client_address import ClientAddressFinder
from services.gateway.http.clock import get_receive_ms, get_receive_time
from services.gateway.http.rejections import record_batch, record_request
from services.gateway.http.request import BodyBudget, GatewayRequest, RequestLimits
from services.gateway.http.unknown_senders import UnknownSenders, find_keys_in_body
from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from services.gateway.lookups.rate_limits import RateLimiter
from services.gateway.lookups.retention import RetentionLookup
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import Forbidden, Malformed, TooLarge, TrackingError, Unauthenticated
from tracking.domain.idempotency_key import make_idempotency_key
from tracking.domain.timestamps import read_time
from tracking.domain.tracking_event import TrackingEvent

Decided = Sequence[TrackingEvent | Rejection]
_MAX_LOOP_BLOCK_S = 0.010
# A larger body is parsed only if a key in it is usable; a smaller one is, so that its sender is told what is wrong.
_MAX_UNKNOWN_PARSED_BYTES = 64 * 1024


class Ingestion:
    """The shared steps; the routes read the request and write the response."""

    def __init__(
        self,
        keys: ApiKeyLookup,
        structures: EventStructureLookup,
        retention: RetentionLookup,
        commits: GroupCommit,
        rate_limiter: RateLimiter,
        limits: RequestLimits,
        rejected_events: RejectedEventWriter,
        dry_run: DryRunCommit,
        addresses: ClientAddressFinder,
        unknown_senders: UnknownSenders,
    ) -> None:
        self._unknown_senders = unknown_senders
        self._rejected_events = rejected_events
        self._dry_run = dry_run
        self._addresses = addresses
        self._rate_limiter = rate_limiter
        self._keys = keys
        self._structures = structures
        self._retention = retention
        self._commits = commits
        self._limits = limits
        self._body_budget = BodyBudget(limits.bodies_bytes)
        self.max_batch_events = limits.batch_events

    async def read_body(self, request: GatewayRequest) -> bytes:
        """Read and return the whole body, decompressed. A key outside of the body is checked before.

        Raises the errors of `authenticate` and `GatewayRequest.read_body`, and Unavailable if there is no capacity for
        its events.
        """
        given = request.find_api_key()
        if given and not request.is_user_of_site(given):
            await self._recognize(request, given, get_receive_time())
            body = await request.read_body(self._limits, self._body_budget)
        else:
            body = await self._read_body_of_unknown(request)
        request.hold_body(body, self._body_budget)
        if not self._commits.has_ample_capacity():
            self._commits.require_capacity(len(body), self._keys.find_cached(given, get_receive_time()))
        return body

    async def _read_body_of_unknown(self, request: GatewayRequest) -> bytes:
        """Read the body of a sender whose key stands in it, if anywhere. It is parsed only if that may be worth it."""
        sender = self._unknown_senders.admit(self._addresses.find(request.peer_address, request.all_headers))
        body = await request.read_body(self._limits, sender.budget, sender.spend)
        unusable: TrackingError = Unauthenticated(
            "missing_api_key", "No API key: send X-Api-Key, Authorization, ?apiKey= or, without escapes, apiKey."
        )
        for candidate in find_keys_in_body(body):
            try:
                await self._key(candidate, get_receive_time())
            except (Unauthenticated, Forbidden) as error:
                unusable = error
            else:
                sender.refund()
                return body
        if len(body) > _MAX_UNKNOWN_PARSED_BYTES:
            raise unusable
        sender.spend(len(body))
        return body

    async def authenticate(
        self,
        request: GatewayRequest,
        key_in_body: Any,
        received_at: datetime,
        sent_at: Any = None,
        is_historical: bool = False,
    ) -> IngestContext:
        """Return the sender. Raises Unauthenticated, Forbidden, Unavailable, Malformed for a bad Idempotency-Key.

        `sent_at` and `is_historical` belong to a whole batch. If `sent_at` is unreadable, the clocks are not corrected,
        and nothing else happens.
        """
        # also a key that was checked before the body arrived, which may have taken long
        given = request.find_api_key()
        if isinstance(key_in_body, str) and (not given or request.is_user_of_site(given)):
            given = key_in_body
        key = await self._recognize(request, given, received_at)
        address = user_agent = None
        if request.is_from_browser:
            address = self._addresses.find(request.peer_address, request.all_headers)
            user_agent = request.user_agent
        name = request.get_idempotency_key()
        return IngestContext(
            key=key,
            address=address,
            user_agent=user_agent,
            received_at=received_at,
            received_ms=get_receive_ms(received_at),
            correlation_id=request.correlation_id,
            event_bytes=self._limits.event_bytes,
            sent_at=read_time(sent_at),
            is_historical=is_historical,
            idempotency_key=name,
            request_key=make_idempotency_key(key.partner_system_id, name, request.raw_body or b"") if name else None,
            is_dry_run=request.is_dry_run,
            raw_since=self._retention.raw_since,
        )

    async def _recognize(self, request: GatewayRequest, given: str | None, at: datetime) -> ApiKeyEntry:
        key = await self._key(given, at)
        is_dry_run = request.is_dry_run
        request.is_authenticated = True
        request.rejection_owner = None if is_dry_run else key
        if request.origin is not None and not key.settings.allows_origin(request.origin):
            raise Forbidden(
                "origin_not_allowed", "The system of this API key takes no events from pages of this origin."
            )
        return key

    async def _key(self, given: str | None, at: datetime) -> ApiKeyEntry:
        return self._keys.authenticate_cached(given, at) or await self._keys.authenticate(given, at)

    async def decide(self, envelopes: list[Any], sender: IngestContext) -> Decided:
        """Decide the envelopes one after the other; if a validator must be loaded first, wait for it and continue.

        Raises TooLarge for too many events in a request, TooManyRequests for too many a second, Unavailable if a schema
        cannot be loaded.
        """
        if len(envelopes) > self._limits.batch_events:
            raise TooLarge(
                "too_many_events", f"{len(envelopes)} events; the limit is {self._limits.batch_events} a batch."
            )
        await self._rate_limiter.acquire(sender.key.partner_system_id, sender.key.settings, len(envelopes))
        decided: list[TrackingEvent | Rejection] = []
        while len(decided) < len(envelopes):
            until = time.perf_counter() + _MAX_LOOP_BLOCK_S
            try:
                # The events are decided one at a time, so that those decided before an exception stay decided.
                for position in range(len(decided), len(envelopes)):
                    decided.append(
                        decide(envelopes[position], sender, self._structures.index, getrandbits(74), position)
                    )
                    if time.perf_counter() > until:
                        # In a large batch, or one with expensive schemas, other requests get their turn in between.
                        await asyncio.sleep(0)
                        until = time.perf_counter() + _MAX_LOOP_BLOCK_S
            except SchemaNotLoaded as missing:
                await self._structures.load(missing.wanted)
        return decided

    async def submit(self, decided: Decided, sender: IngestContext) -> CommitResult:
        """Commit the events; positions in the result count events only. Raises Unprocessable, Unavailable.

        The events of a dry run are not stored.
        """
        events = [event for event in decided if isinstance(event, TrackingEvent)]
        if not events:
            return CommitResult()
        commits = self._dry_run if sender.is_dry_run else self._commits
        return await commits.submit(events, sender.key, sender.request_key)

    def record_rejected(
        self, request: GatewayRequest, envelopes: Sequence[Any], decided: Decided, result: CommitResult
    ) -> None:
        """Record the rejected events of a batch."""
        if request.rejection_owner is not None and (
            result.rejected or any(isinstance(item, Rejection) for item in decided)
        ):
            record_batch(self._rejected_events, request, request.rejection_owner, envelopes, decided, result)

    async def record_error(self, request: GatewayRequest, error: TrackingError) -> None:
        """Record a request that cannot be read, or is not an event, if its sender is known."""
        if not isinstance(error, Malformed | TooLarge):
            return
        key = request.rejection_owner
        if not request.is_authenticated:
            with contextlib.suppress(TrackingError):
                key = None if request.is_dry_run else await self._key(request.find_api_key(), get_receive_time())
        if key is not None:
            record_request(self._rejected_events, request, key, error)
