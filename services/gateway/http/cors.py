"""The headers that browsers need before and after a request from a page of another origin.

Any page may send: a key that is in a page is no secret. Which origins a system takes events from is checked once its
key is known, so a preflight, which has none, is always answered.
"""

Headers = list[tuple[bytes, bytes]]

CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    # without Retry-After an SDK repeats a 429 after a third of a second
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
# a page that isolates its parts (Cross-Origin-Embedder-Policy) may still load the script and the pixel
FOR_ANY_PAGE: Headers = [
    *CORS,
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]
