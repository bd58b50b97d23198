"""CORS: the headers that browsers need for requests from a page of another origin.

Any page may send a request, because a key that is in a page is not a secret. The origins from which a system accepts
events are checked once its key is known. A preflight has no key, so it is always answered.
"""

Headers = list[tuple[bytes, bytes]]

CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    # An SDK that cannot read Retry-After repeats a request after a 429 in a third of a second.
    (
        b"access-control-expose-headers",
        b"Retry-After, X-Correlation-ID, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
    ),
]
PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, content-encoding, idempotency-key, x-api-key, x-correlation-id, x-retry-count",
    ),
    (b"access-control-max-age", b"86400"),
]
CORS_LINES = b"".join(b"%b: %b\r\n" % header for header in CORS)
# A page with Cross-Origin-Embedder-Policy may still load the script and the pixel.
FOR_ANY_PAGE: Headers = [
    *CORS,
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]
