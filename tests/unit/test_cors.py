"""The CORS headers that let pages with any SDK and any tracing library send."""

import pytest

from services.gateway.http.cors import allow_origin, answer_preflight, encode_cors_lines

ORIGIN = "https://shop.example"
METHODS = b"POST, OPTIONS"


def preflight(*asked: str, origin: str | None = ORIGIN) -> dict[str, str]:
    headers = [(b"access-control-request-headers", names.encode()) for names in asked]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    return {name.decode(): value.decode("latin-1") for name, value in answer_preflight(headers, METHODS)}


@pytest.mark.parametrize(
    "names",
    [
        "anonymousid,authorization,content-type,sentat",
        "baggage,sentry-trace,traceparent,tracestate",
        "x-datadog-origin, x-datadog-parent-id",
        "rsa-retry-attempt",
        "x_odd.but'valid",
    ],
)
def test_whatever_headers_a_library_adds_are_allowed(names: str) -> None:
    assert preflight(names)["access-control-allow-headers"] == names


def test_names_in_several_lines_are_one_list() -> None:
    assert preflight("traceparent", "baggage")["access-control-allow-headers"] == "traceparent, baggage"


@pytest.mark.parametrize("names", ["", "a b", "x:y", "a,,b", "a" * 5000, "é", "a;b", "*, <script>"])
def test_what_is_no_list_of_names_is_not_repeated(names: str) -> None:
    allowed = preflight(names)["access-control-allow-headers"]

    assert names not in allowed or not names
    assert "content-type" in allowed


@pytest.mark.parametrize(
    "origin", [ORIGIN, "http://localhost:3000", "http://[::1]:8080", "null", "capacitor://localhost", "app.x+y://host"]
)
def test_the_origin_is_named_so_that_credentials_are_allowed(origin: str) -> None:
    for headers in (
        dict(allow_origin(origin)),
        {name.encode(): v.encode() for name, v in preflight(origin=origin).items()},
    ):
        assert headers[b"access-control-allow-origin"] == origin.encode()
        assert headers[b"access-control-allow-credentials"] == b"true"
        assert headers[b"vary"].startswith(b"Origin")
    assert b"access-control-allow-origin: %b\r\n" % origin.encode() in encode_cors_lines(origin)


@pytest.mark.parametrize(
    "origin", [None, "", "shop.example", "https://shop.example/a b", "https://x\x00y", "https://a,b"]
)
def test_what_is_no_origin_is_not_repeated(origin: str | None) -> None:
    headers = dict(allow_origin(origin))

    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in headers


def test_a_preflight_says_on_what_it_depends_and_how_long_it_holds() -> None:
    headers = preflight("traceparent")

    assert headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    assert headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert headers["access-control-max-age"] == "86400"
