"""CORS: lets web pages of the origins that an operator names read the answers of query.

These are not the origins of a partner system, whose pages may send events: who may send may not read for that reason.
"""

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracking.domain.system_settings import SystemSettings

_MAX_AGE_S = 86_400


class AllowedOrigins:
    """ASGI: answers preflights of the origins, and tells browsers that their pages may read answers, errors too.

    `origins` are as in the settings of a partner system, so `https://*.example.com` is possible. All else is answered
    as without this, which browsers keep from a page of another origin. No answer depends on a cookie.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._settings = SystemSettings(allowed_origins=origins)
        # only requests of allowed origins get here
        self._cors = CORSMiddleware(
            app,
            allow_origin_regex=".+",
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            allow_credentials=True,
            expose_headers=("Retry-After", "X-Correlation-ID"),
            max_age=_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope.get("headers", ()) if name == b"origin"]
        if len(given) == 1 and self._settings.allows_origin(given[0].decode("latin-1")):
            await self._cors(scope, receive, send)
            return

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                # a browser must not use this answer for a page that may read it
                MutableHeaders(scope=message).add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, send_with_vary)
