"""Hostile requests to the two routes that take events."""

import gzip
import json
import zlib
from collections.abc import Iterator
from hashlib import shake_128

import brotli
import zstandard

from tests.hostile.case import Case, case
from tests.hostile.framing import Route, framing
from tests.hostile.json_bytes import BAD_TIMES, BROKEN, GOOD_TIMES, NEARLY_JSON, NO_OBJECT, SURROGATES, WRONG_TYPES

INGEST, BATCH = b"/api/events/ingest", b"/api/events/batch"
_MIB = 1024 * 1024
_EVENT = b'{"eventName":"page_view","anonymousId":"a","eventProperties":{"page":"/home"}}'
_STRINGS = ("eventName", "userId", "anonymousId", "eventId", "messageId")
_MOST = {"eventName": 200, "userId": 255, "anonymousId": 255, "eventId": 100, "messageId": 100}


class Table:
    """The cases of one route. A rejected event gets 400 or 413 alone, and the status `refused` in a batch."""

    def __init__(self, api_key: str, *, is_batch: bool) -> None:
        self.key = (b"X-Api-Key", api_key.encode())
        self.is_batch = is_batch
        self.target = BATCH if is_batch else INGEST
        body = b'{"events":[%b]}' % _EVENT if is_batch else _EVENT
        self.route = Route("POST", self.target, (self.key,), body, 202, preflight=204)

    def cases(self) -> list[Case]:
        """All of them."""
        rest = _batches(self) if self.is_batch else _singles(self)
        return [*framing(self.route), *_syntax(self), *_fields(self), *_times(self), *_limits(self), *_encodings(self),
                *_keys(self), *rest]  # fmt: skip

    def body(
        self, name: str, body: bytes, *statuses: int, code: str | None = None, rejected: int | None = None
    ) -> Case:
        """A body as it stands."""
        return case(name, self.route.sent(body=body), *statuses, code=code, rejected=rejected)

    def event(self, name: str, event: bytes, status: int, code: str | None = None) -> Case:
        """An event, with what it is answered alone."""
        if not self.is_batch:
            return self.body(name, event, status, code=code)
        return self.body(name, b'{"events":[%b,%b]}' % (event, _EVENT), 202, rejected=int(status != 202))

    def field(self, name: str, field: str, value: bytes, status: int, code: str | None = None) -> Case:
        """An event whose field has this value, as JSON; its other fields are right."""
        fields = {"eventName": b'"page_view"', "anonymousId": b'"a"', field: value}
        event = b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), text) for key, text in fields.items())
        return self.event(f"{field} is {name}", event, status, code)


def _syntax(table: Table) -> Iterator[Case]:
    for name, body in BROKEN.items():
        yield table.body(f"JSON: {name}", body, 400, code="malformed_json")
    for name, body in NEARLY_JSON.items():
        yield table.body(f"JSON: {name}", body, 202 if table.is_batch else 400, code="invalid_event", rejected=1)
    whole = table.route.body or b""
    for size in range(1, len(whole)):
        # a batch whose only element is whole
        status = 202 if table.is_batch and size >= len(whole) - len("]}") else 400
        yield table.body(f"JSON: cut after {size} bytes", whole[:size], status, code="malformed_json")
    code = "invalid_batch" if table.is_batch else "invalid_event"
    for name, body in NO_OBJECT.items():
        if table.is_batch and body.startswith(b"["):
            continue  # an array is a batch
        yield table.body(f"JSON: {name}", body, 400, code=code)
    twice = b'{"eventName":5,"eventName":"page_view","userId":"u","eventProperties":{"a":1,"a":{"a":2,"a":3}}}'
    yield table.event("JSON: the same name twice, the last one right", twice, 202)
    twice = b'{"eventName":"page_view","eventName":5,"userId":"u"}'
    yield table.event("JSON: the same name twice, the last one wrong", twice, 400, "invalid_event")
    yield table.event("JSON: 10 000 equal names", b'{%b"eventName":"a","userId":"u"}' % (b'"a":1,' * 10_000), 202)
    yield table.event("JSON: unknown names", b'{"eventName":"a","userId":"u","__proto__":{},"constructor":[]}', 202)
    yield table.event("JSON: names in another case", b'{"EventName":"a","UserId":"u"}', 202)
    for name, value in SURROGATES.items():
        yield table.field(name, "eventProperties", value, 202)
        yield table.field(name, "eventName", value, 400 if value.startswith(b"{") else 202)
    deep = b'{"a":' * 900 + b'"\\ud800"' + b"}" * 900
    yield table.field("a surrogate 900 deep", "eventProperties", deep, 413, "too_deep")
    yield table.body("JSON: gzip that does not say so", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", 400)
    spaced = b' \t\r{"eventName":"a","userId":"u"}\r\t '
    yield table.event("JSON: spaces around", spaced, 202)
    escaped = b'{"\\u0065ventName":"\\ud83d\\ude00\\u202e\\uffff","userId":"\\u0000\\u0000"}'
    yield table.event("JSON: escapes", escaped, 202)


def _fields(table: Table) -> Iterator[Case]:
    for field in _STRINGS:
        for name, value in WRONG_TYPES.items():
            yield table.field(name, field, value, 400, "invalid_event")
        missing = 400 if field in ("eventName", "anonymousId") else 202
        yield table.field("null", field, b"null", missing)
        yield table.field("empty", field, b'""', missing)
        for name, text in {
            "NUL": "\\u0000",
            "SQL": "'; drop table x--",
            "a line break": "a\\r\\nSet-Cookie: b",
        }.items():
            yield table.field(name, field, b'"%b"' % text.encode(), 202)
    for name, value in WRONG_TYPES.items():
        yield table.field(name, "eventProperties", value, 413 if "300 deep" in name else 202)
        good_version = name in ("a number",)
        yield table.field(name, "schemaVersion", value, 202 if good_version else 400)
    for name, text in {"no JSON": "{", "an array": "[1]", "JSON": '{"a":1}', "deep": "[" * 2000, "NUL": "\x00"}.items():
        yield table.field(f"a string: {name}", "eventProperties", json.dumps(text).encode(), 202)
    deep = '{"a":' * 300 + "1" + "}" * 300
    yield table.field("a string: 300 deep", "eventProperties", json.dumps(deep).encode(), 413, "too_deep")
    for name, value in {"2**31 - 1": b"2147483647", "null": b"null"}.items():
        yield table.field(name, "schemaVersion", value, 202)
    for name, value in {"a string": b'"1"', "1.0": b"1.0", "1e0": b"1e0"}.items():
        yield table.field(name, "schemaVersion", value, 400, "invalid_event")


def _times(table: Table) -> Iterator[Case]:
    for field in ("eventTimestamp", "sentAt"):
        # one that cannot be read is flagged
        for name, value in WRONG_TYPES.items():
            yield table.field(name, field, value, 202)
        for text in (*BAD_TIMES, *GOOD_TIMES):
            yield table.field(repr(text), field, b'"%b"' % text.encode(), 202)
        yield table.field("null", field, b"null", 202)
    for original in (GOOD_TIMES[0], GOOD_TIMES[11]):
        for sent_at in (GOOD_TIMES[0], GOOD_TIMES[11]):
            event = {"eventName": "a", "userId": "u", "eventTimestamp": original, "sentAt": sent_at, "eventId": "x"}
            yield table.event(f"sent at {sent_at}, happened at {original}", json.dumps(event).encode(), 202)


def _limits(table: Table) -> Iterator[Case]:
    for field, most in _MOST.items():
        for letter in ("a", "é", "\U0001f600"):
            at, past = (json.dumps(letter * size, ensure_ascii=False).encode() for size in (most, most + 1))
            yield table.field(f"{most} times {letter}", field, at, 202)
            yield table.field(f"{most + 1} times {letter}", field, past, 400, "invalid_event")
    properties = len(b'{"a":""}')
    for size, status, code in ((64 * 1024, 202, None), (64 * 1024 + 1, 413, "event_too_large")):
        value = b'{"a":"%b"}' % (b"x" * (size - properties))
        yield table.field(f"{size} bytes", "eventProperties", value, status, code)
    for depth in (64, 65, 254, 255, 1000):
        value = b'{"a":' * depth + b"1" + b"}" * depth
        yield table.field(f"objects {depth} deep", "eventProperties", value, 202 if depth <= 64 else 413)
        value = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
        yield table.field(f"arrays {depth} deep", "eventProperties", value, 202 if depth <= 64 else 413)
    whole = table.route.body or b""
    at = whole + b" " * (5 * _MIB - len(whole))
    yield table.body("a body of 5 MiB", at, 202)
    yield table.body("a body of 5 MiB and a byte", at + b" ", 413, code="body_too_large")
    chunks = b"%x\r\n%b\r\n" % (len(at), at)
    head = table.route.head(b"Transfer-Encoding: chunked")
    yield case("5 MiB in chunks", head + chunks + b"0\r\n\r\n", 202)
    yield case("5 MiB and a byte in chunks", head + chunks + b"1\r\n \r\n0\r\n\r\n", 413, code="body_too_large")
    endless = [head, *[b"%x\r\n%b\r\n" % (_MIB, b" " * _MIB)] * 20]
    yield case("chunks without end", endless, 413, code="body_too_large")
    for count, status, code in ((500_000, 202, None), (500_001, 413, "too_many_values")):
        own = whole.count(b"{") + whole.count(b"[") + 1
        many = b'{"x":[%b0],%b' % (b"{}," * (count - own), whole[1:])
        yield table.body(f"{count} objects and arrays", many, status, code=code)
    declared = table.route.head(b"Content-Length: 9999999999")
    yield case("a length of 10 GB", declared, 413, code="body_too_large")
    yield case("a length of 10 GB, and bytes", [declared, *[b" " * _MIB] * 40], 413, 0, code="body_too_large")


def _encodings(table: Table) -> Iterator[Case]:
    whole = table.route.body or b""
    packed, deflated = gzip.compress(whole, mtime=0), zlib.compress(whole)
    raw = zlib.compressobj(wbits=-15)
    good = {"gzip": packed, "x-gzip": packed, "GZIP": packed, " gzip ": packed, "deflate": deflated, "identity": whole,
            "": whole}  # fmt: skip
    for name, body in good.items():
        yield _encoded(table, f"encoding {name!r}", name, body, 202)
    for name in ("compress", "gzip, gzip", "gzip;q=1", "snappy", "gzip,", "a" * 5000, "\xff"):
        yield _encoded(table, f"encoding {name[:20]!r}", name, deflated, 400, "unknown_encoding")
        yield _encoded(table, f"encoding {name[:20]!r}, but gzip by its bytes", name, packed, 202)
    for name in ("br", "zstd"):
        yield _encoded(table, f"{name}: deflate", name, deflated, 400, "malformed_encoding")
    yield _encoded(table, "gzip: plain JSON", "gzip", whole, 202)
    broken = {
        "nothing": b"",
        "cut off": packed[:-9],
        "without its checksum": packed[:-8],
        "with a wrong checksum": packed[:-8] + b"\x00" * 8,
        "with a byte more": packed + b"x",
        "twice in a row": packed + packed,
        "a header alone": packed[:10],
        "another method": packed[:2] + b"\x07" + packed[3:],
        "deflate": deflated,
        "deflate without a header": raw.compress(whole) + raw.flush(),
        "random bytes": b"\x1f\x8b\x08" + _noise(500),
    }
    for name, body in broken.items():
        yield _encoded(table, f"gzip: {name}", "gzip", body, 400, "malformed_encoding")
    yield _encoded(table, "deflate: gzip, by its bytes", "deflate", packed, 202)
    # a line break in it makes it lines, each of them refused
    status = 202 if table.is_batch and b"\n" in packed else 400
    yield _encoded(table, "gzip in gzip", "gzip", gzip.compress(packed), status)
    for size in (30 * _MIB, 300 * _MIB):
        yield _encoded(table, f"a bomb of {size} bytes", "gzip", _bomb(size), 413, "inflated_too_large")
    yield _encoded(table, "a bomb of deflate", "deflate", zlib.compress(b" " * 30 * _MIB), 413, "inflated_too_large")
    blank = b" " * 30 * _MIB
    yield _encoded(table, "a bomb of brotli", "br", brotli.compress(blank), 413, "inflated_too_large")
    zstd = zstandard.ZstdCompressor().compress(blank)
    yield _encoded(table, "a bomb of zstd", "zstd", zstd, 413, "inflated_too_large")
    for name, part in (("objects", b"{},"), ("arrays", b"[],"), ("deep arrays", b"[[[]]],")):
        many = b"[%b0]" % (part * (19 * _MIB // len(part)))
        packed_many = gzip.compress(many, 1)
        which = "inflated_too_large" if len(many) > 100 * len(packed_many) else "too_many_values"
        yield _encoded(table, f"20 MiB of {name}", "gzip", packed_many, 413, which)
    # what does not shrink to a hundredth: half of it noise in a string that nobody reads
    noise = b'{"x":"%b",' % _noise(200_000).hex().encode()
    for size, status, code in ((20 * _MIB, 202, None), (20 * _MIB + 1, 413, "inflated_too_large")):
        body = noise + whole[1:]
        yield _encoded(table, f"inflated to {size}", "gzip", gzip.compress(body.ljust(size), 1), status, code)
    at = _of_ratio(whole, 100)
    yield _encoded(table, "inflated a hundredfold", "gzip", at, 202)
    yield _encoded(table, "inflated more than a hundredfold", "gzip", _bomb(10 * _MIB), 413, "inflated_too_large")


def _encoded(table: Table, name: str, encoding: str, body: bytes, status: int, code: str | None = None) -> Case:
    sent = table.route.sent((b"Content-Encoding", encoding.encode("latin-1")), body=body)
    return case(name, sent, status, code=code)


def _noise(size: int) -> bytes:
    return shake_128(b"noise").digest(size)


def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(b" " * _MIB) for _ in range(size // _MIB)]
    return b"".join(pieces) + packer.flush()


def _of_ratio(whole: bytes, ratio: int) -> bytes:
    """gzip of which the inflated body is just within `ratio`."""
    size = 100_000
    while True:
        packed = gzip.compress(b'{"x":"%b",' % _noise(2000).hex().encode() + whole[1:].ljust(size))
        if size * 1.01 + 4200 > len(packed) * ratio:
            return packed
        size = int(size * 1.005) + 1


def _keys(table: Table) -> Iterator[Case]:
    valid = table.route.body or b""

    def keyed(name: str, *headers: tuple[bytes, bytes], status: int = 401, query: bytes = b"") -> Case:
        sent = Route("POST", table.target + query, headers, valid, status).sent()
        return case(f"key: {name}", sent, status)

    for name, key in {"none": b"", "spaces": b"   ", "8 bits": b"\xff\xfe", "SQL": b"' or 1=1--", "long": b"a" * 20_000,
                      "a quote": b'"', "percent": b"%00", "a star": b"*", "UTF-8": b"\xd0\xba"}.items():  # fmt: skip
        yield keyed(f"{name} in X-Api-Key", (b"X-Api-Key", key))
        yield keyed(f"{name} in Bearer", (b"Authorization", b"Bearer " + key))
        yield keyed(f"{name} in Basic", (b"Authorization", b"Basic " + key))
    yield keyed("a scheme nobody knows", (b"Authorization", b"Digest a"))
    yield keyed("a scheme alone", (b"Authorization", b"Bearer"))
    yield keyed("Basic without a colon", (b"Authorization", b"Basic YQ=="))
    yield keyed("Basic of bytes", (b"Authorization", b"Basic //79"))
    for name, query in {"NUL": b"?apiKey=%00", "no UTF-8": b"?apiKey=%ff", "empty": b"?apiKey=", "twice":
                        b"?apiKey=a&apiKey=b", "a list": b"?apiKey[]=a", "no hexadecimal": b"?apiKey=%zz",
                        "10 000 names": b"?" + b"a=b&" * 5000, "8 bits": b"?apiKey=\xc3\xa9"}.items():  # fmt: skip
        # 8 bits in a target are no HTTP
        yield keyed(f"{name} in the query", query=query, status=400 if name == "8 bits" else 401)
    for name, value in WRONG_TYPES.items():
        body = b'{"apiKey":%b,%b' % (value, valid[1:])
        yield case(f"key: {name} in the body", Route("POST", table.target, (), body, 401).sent(), 401)
    good = table.key[1]
    for size, status in ((100, 202), (101, 400)):
        more = (b"Idempotency-Key", b"i" * size)
        yield case(f"Idempotency-Key of {size}", table.route.sent(more), status)
    for name, value in {"8 bits": b"\xff\xfe", "empty": b"", "percent": b"%00%0a", "quotes": b"'\"\\"}.items():
        yield case(f"Idempotency-Key: {name}", table.route.sent((b"Idempotency-Key", value)), 202)
    yield case("key: given twice", table.route.sent((b"X-Api-Key", good)), 202)


def _singles(table: Table) -> Iterator[Case]:
    yield table.body("a batch for one event", b'{"events":[%b]}' % _EVENT, 400, code="invalid_event")
    yield table.body("two lines", _EVENT + b"\n" + _EVENT, 400, code="malformed_json")


def _batches(table: Table) -> Iterator[Case]:
    for name, value in {**WRONG_TYPES, "null": b"null", "a string": b'"x"'}.items():
        if not value.startswith(b"["):
            yield table.body(f"events is {name}", b'{"events":%b}' % value, 400, code="invalid_batch")
        yield table.body(f"one of the events is {name}", b'{"events":[%b]}' % value, 202, rejected=1)
        yield table.body(
            f"sentAt of the batch is {name}", b'{"sentAt":%b,"events":[%b]}' % (value, _EVENT), 202, rejected=0
        )
    yield table.body("no events", b"{}", 400, code="invalid_batch")
    yield table.body("an empty batch", b'{"events":[]}', 202, rejected=0)
    yield table.body("an empty array", b"[]", 202, rejected=0)
    yield table.body("2 500 events", b'{"events":[%b]}' % b",".join([_EVENT] * 2500), 202, rejected=0)
    for name, events in {"arrays": b"[]", "objects": b"{}", "nulls": b"null"}.items():
        yield table.body(f"2 500 {name}", b"[%b]" % b",".join([events] * 2500), 202, rejected=2500)
        yield table.body(f"2 501 {name}", b"[%b]" % b",".join([events] * 2501), 413, code="too_many_events")
        most = 5 * _MIB // (len(events) + 1) - 2
        yield table.body(f"as many {name} as there is room", b"[%b]" % b",".join([events] * most), 413)
    yield table.body("2 501 lines", b"\n".join([b"{}"] * 2501), 413, code="too_many_events")
    yield table.body("lines that are no JSON", b"{\n}\n\xff\n\x00\n[\n" + _EVENT, 202, rejected=5)
    yield table.body("lines of CR LF", b"\r\n".join([_EVENT, b"", _EVENT]), 202, rejected=0)
    yield table.body("lines of CR", b"\r".join([_EVENT, _EVENT]), 400, code="malformed_json")
    yield table.body("100 000 line breaks", b"\n" * 100_000, 400, code="malformed_json")
    yield table.body("a million line breaks", b"\n" * 1_000_000, 413, code="too_many_events")
    yield table.body("a million lines", b"}\n" * 1_000_000, 413, code="too_many_events")
