"""The analytics over HTTP: parameters in, JSON out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from services.query import SERVICE, actors, database, events, freshness, statistics
from services.query.actors import ActorsQuestion
from services.query.auth import AccessTokenLookup, QueryAuthMiddleware, SystemOwners, get_visible_partner_id
from services.query.budget import Budget, Caller
from services.query.cache import StatisticsCache, format_timestamp
from services.query.conditions import EventFilters
from services.query.cors import AllowedOrigins
from services.query.models import Event, EventList, Statistics
from services.query.parameters import ListParameters, StatisticsParameters
from services.query.statistics import NamesPage, sum_kinds
from services.query.time_range import TimeRange
from tracking.domain.errors import Malformed, NotFound
from tracking.domain.event_fields import list_fields
from tracking.http.edge import EdgeMiddleware
from tracking.http.health import Health
from tracking.http.json_api import ErrorBody, read_query, render_json
from tracking.http.openapi import OpenApiDocument
from tracking.infra.postgres import Connection

_LIST_PATH = "/api/events/partner-system/{partnerSystemId}"
_STATISTICS_PATH = "/api/events/partner-system/{partnerSystemId}/statistics"
_EVENT_PATH = "/api/events/{eventId}"
# in the order of the model, which must describe every field; `eventId` is another name of `id`
_RESPONSE_FIELDS = sorted(list_fields("response"), key=lambda field: list(Event.model_fields).index(field.name))
# key, column, whether it is JSON
_EVENT_COLUMNS = [(field.json_name, field.name, field.postgres_type == "jsonb") for field in _RESPONSE_FIELDS]
_ERRORS: dict[int, type[BaseModel] | None] = dict.fromkeys((400, 401, 404, 422, 503), ErrorBody)


class QueryRoutes:
    """Handles the three routes."""

    def __init__(self, budget: Budget, systems: SystemOwners, cached_statistics: StatisticsCache) -> None:
        self._budget = budget
        self._systems = systems
        self._cached_statistics = cached_statistics

    async def events(self, request: Request) -> Response:
        """Events of a partner system in the order of time; without those of bots unless they are asked for.

        Pages by `pageNumber` or by `cursor`, which costs the same at every depth. `totalCount` is that of all pages.
        """
        partner_system_id = await self._require_system(request)
        asked = read_query(request, ListParameters)
        now = datetime.now(UTC)
        position, filters, offset = asked.get_position(partner_system_id, now), asked.to_filters(), asked.get_offset()
        within, limit, is_merged = position.within, asked.page_size + 1, asked.should_merge()
        count = partial(_count_range, partner_system_id, within, filters.event_name)
        caller, to_read = Caller.from_request(request), None
        if filters.needs_whole_range:
            async with self._budget.connect(caller) as connection:
                to_read = await count(connection)
        for attempt in self._budget.attempts(caller, count, events_to_read=to_read):
            async with attempt as connection:
                limits = await freshness.read_limits(connection, is_raw=filters.needs_raw_events)
                kept = freshness.limit_to_events(within, limits)
                position = replace(position, within=kept)
                if is_merged:
                    actor = await actors.find_actor(connection, partner_system_id, filters)
                    rows = await actors.list_actor_events(
                        connection, partner_system_id, actor, position, filters, limit=limit, offset=offset
                    )
                    total = await actors.count_actor_events(connection, partner_system_id, actor, kept, filters)
                else:
                    rows = await events.list_events(
                        connection, partner_system_id, position, filters, limit=limit, offset=offset
                    )
                    total = await _count(connection, partner_system_id, kept, filters)
        shown_rows = rows[: asked.page_size]
        has_more = len(rows) > asked.page_size
        last = (shown_rows[-1]["event_timestamp"], shown_rows[-1]["id"]) if has_more else None
        return render_json(
            {
                "events": [_event(row) for row in shown_rows],
                "totalCount": total,
                "pageNumber": asked.page_number,
                "pageSize": asked.page_size,
                "nextCursor": asked.make_next_cursor(partner_system_id, within, last) if last else None,
                "meta": freshness.make_meta(limits, is_raw=filters.needs_raw_events, is_cached=False),
            }
        )

    async def event(self, request: Request) -> Response:
        """One event by its id."""
        event_id = _uuid(request.path_params["eventId"])
        row = None
        if event_id is not None:
            async with self._budget.connect(Caller.from_request(request)) as connection:
                row = await events.find_event(connection, event_id, get_visible_partner_id(request))
        if row is None:
            raise NotFound("unknown_event", "There is no such event.")
        return render_json(_event(row))

    async def statistics(self, request: Request) -> Response:
        """Counts of a partner system over a range, exact for any range; without bots unless they are asked for.

        `eventCounts` has the `pageSize` most frequent event names, and `cursor` pages on. If that leaves names out,
        `other` has the number of their events.
        """
        partner_system_id = await self._require_system(request)
        asked = read_query(request, StatisticsParameters)
        now = datetime.now(UTC)
        (within, behind), is_merged = asked.get_position(partner_system_id, now), asked.should_merge()
        caller = Caller.from_request(request)
        page = NamesPage(asked.page_size + 1, asked.include_bots, behind)
        result = await self._cached_statistics.get_statistics(caller, partner_system_id, within, page, now)
        counts, asked_for, is_cached = result.counts, dict[str, int](), result.is_cached
        if asked.unique_actors:
            kept = freshness.limit_to_events(within, result.limits)
            actors_seen = await self._cached_statistics.count_actors(
                caller,
                ActorsQuestion(partner_system_id, kept, asked.include_bots, is_merged),
                now,
                events_to_read=sum(counts.by_kind) if kept.start == within.start else None,
            )
            asked_for["uniqueActors"] = actors_seen.number
            is_cached = is_cached and actors_seen.is_cached
        bots = None if asked.include_bots else False
        valid, invalid = sum_kinds(counts.by_kind, True, bots), sum_kinds(counts.by_kind, False, bots)
        shown = counts.of_page[: asked.page_size]
        left_out: dict[str, Any] = {}
        if len(shown) < counts.names:
            has_more = len(counts.of_page) > asked.page_size
            left_out = {
                "other": valid + invalid - sum(number for _, number in shown),
                "otherNames": counts.names - len(shown),
                "nextCursor": asked.make_next_cursor(partner_system_id, within, shown[-1]) if has_more else None,
            }
        return render_json(
            {
                "partnerSystemId": partner_system_id,
                "totalEvents": valid + invalid,
                "validEvents": valid,
                "invalidEvents": invalid,
                "eventCounts": dict(shown),
                **left_out,
                **asked_for,
                "startDate": format_timestamp(within.start),
                "endDate": format_timestamp(within.end),
                "meta": freshness.make_meta(result.limits, is_raw=False, is_cached=is_cached),
            }
        )

    async def _require_system(self, request: Request) -> UUID:
        partner_system_id = _uuid(request.path_params["partnerSystemId"])
        if partner_system_id is None:
            fault = {"field": "partnerSystemId", "message": "not a UUID"}
            raise Malformed("invalid_parameters", "partnerSystemId in the path is not a UUID.", [fault])
        await self._systems.require_visible(partner_system_id, get_visible_partner_id(request))
        return partner_system_id


async def _count_range(
    partner_system_id: UUID, within: TimeRange, event_name: str | None, connection: Connection
) -> int:
    """How many events there are of the range, or of a name in it: no list of them reads more."""
    kept = freshness.limit_to_events(within, await freshness.read_limits(connection, is_raw=True))
    if kept.start > kept.end:
        return 0
    return await statistics.count_all(connection, partner_system_id, kept, event_name)


async def _count(connection: Connection, partner_system_id: UUID, within: TimeRange, filters: EventFilters) -> int:
    if filters.needs_raw_events:
        return await events.count_events(connection, partner_system_id, within, filters)
    counts = await statistics.count_by_kind(connection, partner_system_id, within, filters.event_name)
    return sum_kinds(counts, filters.is_valid, filters.is_bot)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _event(row: database.Row) -> dict[str, Any]:
    event = {"eventId": row["id"]}
    for key, column, is_json in _EVENT_COLUMNS:
        value = row[column]
        event[key] = orjson.Fragment(value) if is_json and value is not None else value
    event["eventType"] = event["eventType"] or "track"
    return event


def create_app(
    query: QueryRoutes, tokens: AccessTokenLookup, health: Health, allowed_origins: tuple[str, ...] = ()
) -> ASGIApp:
    """The application with its health, metrics and documentation, which alone are open.

    Web pages of `allowed_origins` may read its answers.
    """
    docs = OpenApiDocument(
        title="Volcanion Tracking query",
        description=(
            "Events and statistics. Every answer says how far behind it is (meta). A token for one partner sees that "
            "partner's systems; everything else is not found. For a token that sees all partners, a system that is not "
            "known (yet) has no events."
        ),
        version="1",
        credential="bearer",
    )
    documented: Sequence[Route] = [
        Route(
            _LIST_PATH,
            docs.describe(
                query=ListParameters, answers={200: EventList, **_ERRORS}, tag="events", operation_id="events"
            )(query.events),
        ),
        Route(
            _STATISTICS_PATH,
            docs.describe(
                query=StatisticsParameters,
                answers={200: Statistics, **_ERRORS},
                tag="statistics",
                operation_id="statistics",
            )(query.statistics),
        ),
        Route(
            _EVENT_PATH,
            docs.describe(answers={200: Event, **_ERRORS}, tag="events", operation_id="event")(query.event),
        ),
    ]
    open_routes = [*health.make_routes(), *docs.make_routes(Starlette(routes=documented))]
    router = Router(routes=[*open_routes, *documented], redirect_slashes=False)
    app = EdgeMiddleware(QueryAuthMiddleware(router, tokens, [route.path for route in open_routes]), SERVICE)
    return AllowedOrigins(app, allowed_origins) if allowed_origins else app
