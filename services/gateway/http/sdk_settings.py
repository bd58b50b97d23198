"""The settings that SDKs of Segment and RudderStack fetch before they send anything.

They say where to send, and that no other product takes part. The key is not looked up: the first event says better
what is wrong with it, and an answer that costs no query needs no protection.
"""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway.http.cors import allow_origin, answer_preflight
from services.gateway.http.request import GatewayRequest
from tracking.domain.errors import Malformed

SOURCE_CONFIG_PATH = "/sourceConfig"
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_MAX_KEY_CHARACTERS = 200
_CACHE = "private, max-age=300"


class SdkSettings:
    """Handles `/v1/projects/{key}/settings` of Segment and `/sourceConfig` of RudderStack."""

    def __init__(self, prefix: str = "/v1") -> None:
        self._prefix = prefix
        self.project_path = f"{prefix}/projects/{{key}}/settings"
        self.paths = (self.project_path, SOURCE_CONFIG_PATH)

    async def project(self, request: Request) -> Response:
        """Tell an SDK of Segment to send to this host, and that no other destination is switched on."""
        key = _require_key(request.path_params["key"])
        host = request.headers.get("host", "")
        destination = {"apiKey": key, "type": "browser", "versionSettings": {"componentTypes": ["browser"]}}
        if _HOST.fullmatch(host):
            destination |= {"apiHost": host + self._prefix, "protocol": _find_scheme(request)}
        return _answer(
            request,
            {
                "integrations": {"Segment.io": destination},
                "plan": {
                    "track": {"__default": {"enabled": True, "integrations": {}}},
                    "identify": {"__default": {"enabled": True}},
                    "group": {"__default": {"enabled": True}},
                },
                "edgeFunction": {},
                "analyticsNextEnabled": True,
                "middlewareSettings": {},
                "enabledMiddleware": {},
                "metrics": {"sampleRate": 0},
                "legacyVideoPluginsEnabled": False,
                "remotePlugins": [],
            },
        )

    async def source(self, request: Request) -> Response:
        """Tell an SDK of RudderStack that its source is enabled and has no destinations of its own."""
        key = _require_key(GatewayRequest(request.scope, request.receive).find_api_key())
        source = {
            "id": key,
            "name": "Volcanion Tracking",
            "writeKey": key,
            "enabled": True,
            "workspaceId": "volcanion-tracking",
            "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
            "connections": [],
            "destinations": [],
            "dataplanes": {},
        }
        return _answer(request, {"source": source, "updatedAt": "1970-01-01T00:00:00.000Z"})

    async def preflight(self, request: Request) -> Response:
        """Answer a preflight of either."""
        response = Response(status_code=204)
        response.raw_headers.extend(answer_preflight(request.scope["headers"], b"GET, HEAD, OPTIONS"))
        return response


def _require_key(key: str | None) -> str:
    if not key or len(key) > _MAX_KEY_CHARACTERS or not key.isprintable():
        raise Malformed(
            "invalid_parameter", "The settings belong to a key: name it in the path, in writeKey or as Basic."
        )
    return key


def _find_scheme(request: Request) -> str:
    forwarded = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip()
    return forwarded if forwarded in ("http", "https") else request.url.scheme


def _answer(request: Request, content: object) -> Response:
    response = JSONResponse(content, headers={"cache-control": _CACHE})
    response.raw_headers.extend(allow_origin(request.headers.get("origin")))
    return response
