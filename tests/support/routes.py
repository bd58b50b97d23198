"""The routes of an HTTP service, read from its application object: a new one is found without being named anywhere."""

import re
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

from starlette.applications import Starlette
from starlette.routing import Route, Router

from services.admin import app as admin
from services.gateway.http import app as gateway
from services.gateway.http.sdk import SdkRoutes
from services.query import app as query
from tracking.http.health import Health

# what each HTTP service may answer without key or token
OPEN = frozenset({"/health/live", "/health/ready", "/metrics", "/openapi/v1.json", "/scalar/v1"})
# and what a page loads before it has anything to say
SCRIPT = "/v1/tracker.js"
SDK_SETTINGS = frozenset({"/sourceConfig", "/v1/projects/{key}/settings"})
# the applications are only looked at, so what they would work with need not be there
_NOTHING = cast(Any, None)


def http_services() -> dict[str, Any]:
    """The applications by service, with nothing behind them."""
    return {
        "gateway": gateway.create_app(_NOTHING, SdkRoutes(_NOTHING), Health("gateway", {})),
        "admin": admin.create_app(_NOTHING, _NOTHING, Health("admin", {})),
        "query": query.create_app(query.QueryRoutes(_NOTHING, _NOTHING, _NOTHING), _NOTHING, Health("query", {})),
    }


def routes(app: Any) -> set[tuple[str, str]]:
    """`(method, path)` of every route that it or what it wraps knows; parameters stand in braces."""
    return {(method, path) for method, path in _routes(app, set()) if method != "HEAD"}


def filled(path: str, **known: object) -> str:
    """The path with values for its parameters, a UUID for one that is not given."""
    return re.sub(r"{(\w+)}", lambda found: str(known.get(found[1]) or uuid4()), path)


def _routes(app: Any, seen: set[int]) -> Iterator[tuple[str, str]]:
    if id(app) in seen:
        return
    seen.add(id(app))
    if isinstance(app, Starlette | Router):
        for route in app.routes:
            # a mount or a websocket would need a look of its own
            assert isinstance(route, Route), route
            yield from ((method, route.path) for method in route.methods or ())
    elif type(app).__module__.startswith(("services.", "tracking.")):
        for name in [*vars(type(app)).get("__slots__", ()), *getattr(app, "__dict__", {})]:
            value = getattr(app, name)
            if isinstance(value, dict):
                yield from (("POST", path) for path in value if isinstance(path, str) and path.startswith("/"))
                yield from (key for key in value if isinstance(key, tuple) and str(key[-1]).startswith("/"))
            else:
                yield from _routes(value, seen)
