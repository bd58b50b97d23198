"""CORS: the headers that browsers need for requests from a page of another origin.

Any page may send a request, with any headers and with credentials: a key that is in a page is not a secret, and no
cookie is read, so nothing is at stake. SDKs and tracing libraries add headers of their own (`AnonymousId`,
`traceparent`), which no list could follow. The origins from which a system accepts events are checked once its key is
known. A preflight has no key, so it is always answered.
"""

import re
from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

# The origin "null" (a sandboxed frame, a file) is one as well.
_ORIGIN = re.compile(rb"null|[a-z][a-z0-9+.-]*://[^\s,/?#\x00-\x20\x7f-\xff]{1,300}", re.IGNORECASE)
_HEADER_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9a-z-]+)*", re.IGNORECASE)
_MAX_NAMES_BYTES = 4096
_USUAL_NAMES = (
    b"authorization, content-type, content-encoding, idempotency-key, x-api-key, x-correlation-id, x-retry-count"
)
_EXPOSED: Headers = [
    # An SDK that cannot read Retry-After repeats a request after a 429 in a third of a second.
    (
        b"access-control-expose-headers",
        b"Retry-After, X-Correlation-ID, X-Error-Code, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
    ),
]
# A page with Cross-Origin-Embedder-Policy may load the script and the pixel, too.
FOR_ANY_PAGE: Headers = [
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]


def allow_origin(origin: str | None) -> Headers:
    """Return the headers that let a page of `origin` read the response, even if it sent credentials.

    For those `*` is not enough (Fetch, 3.2.5): the origin has to be named, and `Vary` keeps caches from giving the
    response to a page of another one.
    """
    named = (origin or "").encode("latin-1", "replace")
    if not _ORIGIN.fullmatch(named):
        return [(b"access-control-allow-origin", b"*"), *_EXPOSED]
    return [
        (b"access-control-allow-origin", named),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
        *_EXPOSED,
    ]


def encode_cors_lines(origin: str | None) -> bytes:
    """Return `allow_origin` as lines of a response."""
    return b"".join(b"%b: %b\r\n" % header for header in allow_origin(origin))


def answer_preflight(headers: Iterable[tuple[bytes, bytes]], methods: bytes) -> Headers:
    """Return the headers of the response to a preflight: whatever names of headers the browser asks for are allowed."""
    given: dict[bytes, bytes] = {}
    for name, value in headers:
        given[name] = given[name] + b", " + value if name in given else value
    asked = given.get(b"access-control-request-headers", b"").strip()
    is_usual = not asked or len(asked) > _MAX_NAMES_BYTES or not _HEADER_NAMES.fullmatch(asked)
    origin = given.get(b"origin")
    return [
        *(header for header in allow_origin(origin.decode("latin-1") if origin else None) if header[0] != b"vary"),
        (b"access-control-allow-methods", methods),
        (b"access-control-allow-headers", _USUAL_NAMES if is_usual else asked),
        (b"access-control-max-age", b"86400"),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
