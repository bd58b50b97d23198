"""Hostile requests to the routes that SDKs and pages call: `/v1/track`, `/v1/batch`, the beacon and the pixel."""

import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote_from_bytes

from tests.hostile.case import Case, case
from tests.hostile.framing import Route, framing
from tests.hostile.json_bytes import BAD_TIMES, BROKEN, GOOD_TIMES, NEARLY_JSON, NO_OBJECT, SURROGATES, WRONG_TYPES

_MESSAGE = b'{"type":"track","event":"e","anonymousId":"a","properties":{"page":"/home"}}'
_FIELDS = ("event", "type", "userId", "anonymousId", "messageId", "previousId", "groupId", "name", "properties",
           "traits", "context", "timestamp", "originalTimestamp", "sentAt", "integrations", "writeKey")  # fmt: skip
_KINDS = ("track", "identify", "page", "screen", "group", "alias")


class Table:
    """The cases of one route, `track`, `batch` or `beacon`."""

    def __init__(self, api_key: str, kind: str) -> None:
        self.is_batch = kind != "track"
        headers = ((b"X-Api-Key", api_key.encode()),)
        body = b'{"batch":[%b]}' % _MESSAGE if self.is_batch else _MESSAGE
        self.route = Route("POST", f"/v1/{kind}".encode(), headers, body, 200, preflight=204)

    def cases(self) -> list[Case]:
        """All of them."""
        rest = self._batches() if self.is_batch else ()
        return [*framing(self.route), *self._syntax(), *self._fields(), *rest]

    def _body(self, name: str, body: bytes, *statuses: int, code: str | None = None) -> Case:
        return case(name, self.route.sent(body=body), *statuses, code=code)

    def _message(self, name: str, message: bytes) -> Case:
        """A message that may be rejected alone with 4xx, but never in a batch, as the SDK would drop the others too."""
        if not self.is_batch:
            return self._body(name, message, 200, 400, 413)
        return self._body(name, b'{"batch":[%b,%b]}' % (message, _MESSAGE), 200)

    def _syntax(self) -> Iterator[Case]:
        for name, body in BROKEN.items():
            yield self._body(f"JSON: {name}", body, 400, code="malformed_json")
        for name, body in NEARLY_JSON.items():
            yield self._body(f"JSON: {name}", body, 200 if self.is_batch else 400, code="invalid_event")
        whole = self.route.body or b""
        for size in range(1, len(whole)):
            # a batch whose only element is whole
            status = 200 if self.is_batch and size >= len(whole) - len("]}") else 400
            yield self._body(f"JSON: cut after {size} bytes", whole[:size], status, code="malformed_json")
        for name, body in NO_OBJECT.items():
            yield self._body(f"JSON: {name}", body, 200 if self.is_batch else 400)

    def _fields(self) -> Iterator[Case]:
        values = {**WRONG_TYPES, **SURROGATES, "null": b"null", "empty": b'""', "long": b'"%b"' % (b"x" * 5_000)}
        for field in _FIELDS:
            for name, value in values.items():
                message = b'{"%b":%b,%b' % (
                    field.encode(),
                    value,
                    _MESSAGE[1:].replace(b'"%b"' % field.encode(), b'"x"', 1),
                )
                yield self._message(f"{field} is {name}", message)
        for text in (*BAD_TIMES, *GOOD_TIMES):
            yield self._message(f"timestamp is {text!r}", b'{"timestamp":"%b",%b' % (text.encode(), _MESSAGE[1:]))
        for kind in (*_KINDS, "unheard", ""):
            message = json.dumps({"type": kind, "userId": "u", "traits": {"a": 1}, "properties": [1]}).encode()
            yield self._message(f"a message of type {kind!r}", message)

    def _batches(self) -> Iterator[Case]:
        for name, value in {**WRONG_TYPES, "null": b"null", "a string": b'"x"'}.items():
            yield self._body(f"batch is {name}", b'{"batch":%b}' % value, 200)
            yield self._body(f"one of the messages is {name}", b'{"batch":[%b,%b]}' % (value, _MESSAGE), 200)
            yield self._body(f"sentAt of the batch is {name}", b'{"sentAt":%b,"batch":[%b]}' % (value, _MESSAGE), 200)
        for name, message in {"arrays": b"[]", "objects": b"{}", "nulls": b"null"}.items():
            yield self._body(f"2 500 {name}", b"[%b]" % b",".join([message] * 2500), 200)
            yield self._body(f"2 501 {name}", b"[%b]" % b",".join([message] * 2501), 413, code="too_many_events")


_TEXTS = {
    "empty": b"",
    "NUL": b"\x00",
    "no UTF-8": b"\xff\xfe",
    "a surrogate": b"\xed\xa0\x80",
    "JSON": b'{"a":1}',
    "SQL": b"' or 1=1--",
    "a line break": b"\r\nSet-Cookie: a=b",
    "brackets": b"[" * 500,
    "5 000 letters": b"x" * 5_000,
    "a plus": b"+",
    "signs": b"&&==",
    "markup": b"<script>",
}
_PARAMETERS = (*_FIELDS, "eventName", "eventTimestamp", "apiKey[]", "__proto__", "a")
_QUERIES = {
    "percent alone": b"event=%&userId=u",
    "no hexadecimal": b"event=%zz&userId=u",
    "no names": b"=a&=b&userId=u",
    "semicolons": b"event=e;userId=u",
    "dots": b"event=..%2f..&userId=u",
    "twice": b"event=e&event=f&userId=u&userId=v",
}
_KEYS = {
    "none": b"",
    "empty": b"writeKey=",
    "NUL": b"writeKey=%00",
    "no UTF-8": b"apiKey=%ff",
    "a list": b"apiKey[]=a",
    "long": b"writeKey=" + b"a" * 5_000,
    "another": b"writeKey=sk_" + b"0" * 32,
}
_REFERERS = {
    "NUL": b"%00",
    "8 bits": b"\xff\xfe",
    "long": b"https://" + b"a" * 9_000,
    "no address": b"::::",
    "a script": b"javascript:alert(1)",
}


class Pixels:
    """The cases of the pixel: an event that is written as a query."""

    def __init__(self, api_key: str) -> None:
        headers = ((b"X-Api-Key", api_key.encode()),)
        self.route = Route("GET", b"/v1/pixel?event=e&userId=u", headers, None, 200, is_reading=False, preflight=204)

    def cases(self) -> list[Case]:
        """All of them."""
        return [*framing(self.route), *self._queries(), *self._keys()]

    def _query(self, name: str, query: bytes, *statuses: int, code: str | None = None) -> Case:
        return case(name, self.route.sent(target=b"/v1/pixel?" + query), *statuses, code=code)

    def _queries(self) -> Iterator[Case]:
        for field in _PARAMETERS:
            for name, text in _TEXTS.items():
                query = b"%b=%b&userId=u&event=e" % (field.encode(), quote_from_bytes(text).encode())
                yield self._query(f"{field} is {name}", query, 200, 400)
        for number, status in ((190, 200), (201, 400), (3_000, 400)):
            query = b"&".join(b"a%d=1" % n for n in range(number))
            yield self._query(f"{number} parameters", b"event=e&userId=u&" + query, status)
        for name, query in _QUERIES.items():
            yield self._query(f"query: {name}", query, 200, 400)
        yield self._query("no person", b"event=e", 400, code="invalid_event")

    def _keys(self) -> Iterator[Case]:
        without = replace(self.route, headers=())
        for name, key in _KEYS.items():
            yield case(f"key: {name}", without.sent(target=without.target + b"&" + key), 401)
        for name, value in _REFERERS.items():
            yield case(f"Referer: {name}", self.route.sent((b"Referer", value)), 200)
