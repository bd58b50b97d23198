"""Requests that break the rules of HTTP for lines, headers, lengths, chunks and targets. They suit every route."""

from dataclasses import dataclass

from tests.hostile.case import Case, case
from tests.support.raw_http import request

_CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Route:
    """A route as it is called rightly, and what it answers then.

    `is_reading` says whether it waits for its body; one that does not answers before it has seen what is wrong there.
    """

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    status: int
    is_reading: bool = True
    preflight: int = 405  # what OPTIONS is answered

    def sent(self, *more: tuple[bytes, bytes], target: bytes | None = None, body: bytes | None = None) -> bytes:
        """It with other headers, another target or another body."""
        return request(self.method, target or self.target, (*self.headers, *more), self.body if body is None else body)

    def head(self, *lines: bytes) -> bytes:
        """It with these lines behind its own headers, and no body."""
        own = (b"%b: %b" % header for header in self.headers)
        start = b"%b %b HTTP/1.1" % (self.method.encode(), self.target)
        return _CRLF.join((start, b"Host: test", *own, *lines)) + _CRLF * 2


def framing(route: Route) -> list[Case]:
    """All of them."""
    return [
        *_lines(route),
        *_headers(route),
        *_lengths(route),
        *_make_chunked_cases(route),
        *_targets(route),
        *_ends(route),
    ]


def _lines(route: Route) -> list[Case]:
    valid = route.sent()
    _, _, rest = valid.partition(_CRLF)
    method, target = route.method.encode(), route.target
    wrong = {
        "nothing but garbage": b"\x00\x01\x02\x03\xff\r\n\r\n",
        "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "an answer for a request": b"HTTP/1.1 200 OK\r\n\r\n",
        "a version without digits": b"%b %b HTTP/x.y\r\n" % (method, target) + rest,
        "version 9.9": b"%b %b HTTP/9.9\r\n" % (method, target) + rest,
        "no target": b"%b  HTTP/1.1\r\n" % method + rest,
        "a lower-case method": b"%b %b HTTP/1.1\r\n" % (method.lower(), target) + rest,
        "a method nobody knows": b"HACK %b HTTP/1.1\r\n" % target + rest,
        "NUL in the method": b"PO\x00ST %b HTTP/1.1\r\n" % target + rest,
        "NUL in the target": b"%b %b\x00 HTTP/1.1\r\n" % (method, target) + rest,
        "a space in the target": b"%b /a b HTTP/1.1\r\n" % method + rest,
        "8 bits in the target": b"%b /\xff\xfe HTTP/1.1\r\n" % method + rest,
        "more behind the version": b"%b %b HTTP/1.1 x\r\n" % (method, target) + rest,
    }
    return [case(name, raw, 400, code="malformed_http") for name, raw in wrong.items()]


def _headers(route: Route) -> list[Case]:
    ok = route.status
    wrong = {
        "a header without a colon": b"NoColon",
        "a space before the colon": b"X-A : b",
        "a space before the name": b" X-A: b",
        "an empty name": b": b",
        "NUL in a name": b"X-\x00A: b",
        "8 bits in a name": b"X-\xff: b",
        "NUL in a value": b"X-A: b\x00c",
        "a bell in a value": b"X-A: b\x07c",
        "DEL in a value": b"X-A: b\x7fc",
        "a bare CR in a value": b"X-A: b\rX-Api-Key: c",
        "a name with brackets": b"X(A): b",
    }
    many = [(b"X-%d" % n, b"v") for n in range(1000)]
    allowed = {
        "8 bits in a value": [(b"X-A", b"\xff\xfe")],
        "a thousand headers": many,
        "an empty value": [(b"X-A", b"")],
        "a header of 20 KiB": [(b"X-A", b"a" * 20_000)],
        "a correlation id with a line break encoded": [(b"X-Correlation-ID", b"a%0d%0aSet-Cookie: b")],
        "a correlation id of 8 bits": [(b"X-Correlation-ID", b"\xff\xfe")],
        "a correlation id of 100": [(b"X-Correlation-ID", b"a" * 100)],
        "a correlation id of 101": [(b"X-Correlation-ID", b"a" * 101)],
        "an empty correlation id": [(b"X-Correlation-ID", b"")],
        "two correlation ids": [(b"X-Correlation-ID", b"a"), (b"X-Correlation-ID", b"b")],
        "a traceparent that is none": [(b"traceparent", b"00-zz-zz-zz")],
        "an upgrade to WebSocket": [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")],
        "an upgrade to HTTP/2": [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c")],
        "an expectation": [(b"Expect", b"100-continue")],
        "an expectation nobody knows": [(b"Expect", b"200-ok")],
        "an absurd Accept": [(b"Accept", b"*/*;q=x,,,")],
        "a content type of binary": [(b"Content-Type", b"application/octet-stream")],
        "a charset nobody knows": [(b"Content-Type", b"application/json; charset=klingon")],
        "a forwarded address that is none": [(b"X-Forwarded-For", b"'; drop table--")],
        "another host": [(b"X-Forwarded-Host", b"evil.example")],
        "an overridden method": [(b"X-HTTP-Method-Override", b"DELETE")],
        "a range": [(b"Range", b"bytes=0-0")],
    }
    endless = [b"X-A: " + b"a" * 16_000 + _CRLF] * 40
    first = route.head()[:-2]
    return [
        *(case(name, route.head(line), 400, code="malformed_http") for name, line in wrong.items()),
        *(case(name, route.sent(*more), ok) for name, more in allowed.items()),
        case("a folded header", route.head(b"X-A: b", b" c"), 400, code="malformed_http"),
        case("headers without end", [first, *endless], 431, 0, code="headers_too_large"),
        case("a header without end", [first, b"X-A: ", *[b"a" * 16_000] * 40], 431, 0, code="headers_too_large"),
        case("a target without end", [b"GET /", *[b"a" * 16_000] * 40], 431, 0, code="headers_too_large"),
        case("a name without end", [first, *[b"a" * 16_000] * 40], 431, 0, code="headers_too_large"),
    ]


def _lengths(route: Route) -> list[Case]:
    body = route.body or b"{}"
    size = b"%d" % len(body)
    wrong = {
        "a negative length": [b"Content-Length: -1"],
        "a length with a plus": [b"Content-Length: +" + size],
        "a length in hexadecimal": [b"Content-Length: 0x10"],
        "a length as a float": [b"Content-Length: 1e3"],
        "a length that is no number": [b"Content-Length: abc"],
        "an empty length": [b"Content-Length: "],
        "a length of 2**64": [b"Content-Length: 18446744073709551616"],
        "a length of 5 000 digits": [b"Content-Length: " + b"9" * 5000],
        "two lengths in one": [b"Content-Length: %b, %b" % (size, size)],
        "two lengths that differ": [b"Content-Length: " + size, b"Content-Length: 1"],
        "the same length twice": [b"Content-Length: " + size] * 2,
        "a length and chunks": [b"Content-Length: " + size, b"Transfer-Encoding: chunked"],
        "chunks and a length": [b"Transfer-Encoding: chunked", b"Content-Length: " + size],
        "an encoding of transfer nobody knows": [b"Transfer-Encoding: gzip"],
        "chunks that are not the last encoding": [b"Transfer-Encoding: chunked, gzip"],
        "chunks spelt wrong": [b"Transfer-Encoding: xchunked"],
    }
    return [case(name, route.head(*lines) + body, 400, code="malformed_http") for name, lines in wrong.items()]


def _make_chunked_cases(route: Route) -> list[Case]:
    body = route.body or b"{}"
    head = route.head(b"Transfer-Encoding: chunked")
    whole = b"%x\r\n%b\r\n" % (len(body), body)
    wrong = {
        "a chunk's size is no number": b"zz\r\n{}\r\n0\r\n\r\n",
        "a chunk's size is negative": b"-2\r\n{}\r\n0\r\n\r\n",
        "a chunk's size is missing": b"\r\n{}\r\n0\r\n\r\n",
        "a chunk's size starts with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
        "a chunk's size of 2**68": b"100000000000000000\r\n{}",
        "a chunk that is longer than its size": b"2\r\n{}{}\r\n0\r\n\r\n",
        "a chunk without its line break": b"2\r\n{}0\r\n\r\n",
        "a chunk's extension with NUL": b"2;a=\x00\r\n{}\r\n0\r\n\r\n",
        "a trailer without a colon": b"2\r\n{}\r\n0\r\nNoColon\r\n\r\n",
    }
    # a route that does not wait for its body has answered before, or answers nothing as the connection is broken
    early = () if route.is_reading else (route.status, 0)
    right = {
        "chunks": whole + b"0\r\n\r\n",
        "chunks of one byte": b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n",
        "a chunk's extension": whole.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\n\r\n",
        "a chunk's size with zeros before it": b"0000" + whole + b"0\r\n\r\n",
        "a trailer that would be a header": whole + b"0\r\nX-Correlation-ID: a\r\nX-Api-Key: b\r\n\r\n",
    }
    return [
        *(case(name, head + raw, 400, *early, code=None) for name, raw in wrong.items()),
        *(case(name, head + raw, route.status) for name, raw in right.items()),
        case(
            "trailers without end",
            [head + whole + b"0\r\n", *[b"X-A: " + b"a" * 16_000 + _CRLF] * 40],
            *(431, 0, *early),
        ),
        case("an extension without end", [head + b"2;", *[b"a" * 16_000] * 40], 431, 0, *early),
        case("chunks that do not end", head + whole, 408, *early),
        case("a chunk that does not come", head, 408, *early),
    ]


def _targets(route: Route) -> list[Case]:
    # behind the credential every unknown path is 404; another method is 405
    unknown = {
        "NUL encoded": b"/%00",
        "no UTF-8 encoded": b"/%ff%fe",
        "a surrogate encoded": b"/%ed%a0%80",
        "half an encoding": b"/%",
        "no hexadecimal encoding": b"/%zz",
        "a line break encoded": b"/%0d%0aSet-Cookie:%20a=b",
        "a way up": b"/../../etc/passwd",
        "a way up encoded": b"/%2e%2e/%2e%2e/etc/passwd",
        "upper case": route.target.partition(b"?")[0].upper(),
        "20 000 characters": b"/" + b"a" * 20_000,
        "parameters in the path": route.target.partition(b"?")[0] + b";a=b",
    }
    slash_at_end = b"%b/%b%b" % route.target.partition(b"?")
    return [
        *(case(f"a target with {name}", route.sent(target=target), 404, 400) for name, target in unknown.items()),
        # the gateway takes them for the path that was meant
        case("two slashes", route.sent(target=b"/" + route.target), route.status, 400, 404),
        case("a slash at the end", route.sent(target=slash_at_end), route.status, 400, 404),
        case("an absolute target", route.sent(target=b"http://evil.example" + route.target), route.status),
        case("an asterisk for a target", b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", 400, 401, 404, 405),
        case("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        case("TRACE", route.sent().replace(route.method.encode(), b"TRACE", 1), 400, 405),
        case("DELETE", route.sent().replace(route.method.encode(), b"DELETE", 1), 404, 405),
        case("OPTIONS", route.sent().replace(route.method.encode(), b"OPTIONS", 1), route.preflight),
        case("a query of nothing but signs", route.sent(target=route.target + b"?&&=&=&%&%00"), route.status, 400),
        case("a query of 5 000 names", route.sent(target=route.target + b"?" + b"a&" * 5000), route.status, 400),
    ]


def _ends(route: Route) -> list[Case]:
    whole = route.sent(body=route.body or b"{}")
    cuts = sorted({len(whole) * n // 20 for n in range(1, 20)})
    early = () if route.is_reading else (route.status,)
    return [
        *(case(f"ends after {cut} bytes", whole[:cut], 0, *early, ending="half_close") for cut in cuts),
        case("a body shorter than its length", route.head(b"Content-Length: 4000") + b"{}", 408, *early),
        case("100 requests at once", whole * 100, route.status),
        case("garbage behind a request", whole + b"\x00\x00\x00", route.status),
        case("half a request behind a request", whole + whole[: len(whole) // 2], route.status),
    ]
