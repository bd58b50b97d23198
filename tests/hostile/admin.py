"""Hostile requests to the routes of admin: bodies, ids, parameters and tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.hostile.case import Case, case, named
from tests.hostile.framing import Route, framing
from tests.hostile.json_bytes import BAD_TIMES, BROKEN, NEARLY_JSON, NO_OBJECT, SURROGATES, WRONG_TYPES
from tests.hostile.query import ODD_IDS, ODD_NUMBERS, ODD_TEXTS
from tests.support.admin_api import RegisteredThings

_NOBODY = b"00000000-0000-0000-0000-000000000000"
_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """A route that takes a body: the right one by field as JSON, what it answers, and the most characters of texts."""

    method: str
    path: str
    fields: Mapping[str, bytes]
    statuses: tuple[int, ...]
    texts: Mapping[str, int] = field(default_factory=dict)
    is_optional: bool = False


def bodies(known: RegisteredThings) -> list[Body]:
    """Every route that takes a body. A second time most of them conflict with the first."""
    partner, system = f"/api/partners/{known.partner}", f"/api/partnersystems/{known.system}"
    own = {"partnerId": b'"%b"' % known.partner.encode()}
    schema = {"schema": b'{"type":"object"}'}
    return [
        Body("POST", "/api/partners", {"name": b'"A"', "email": b'"h@example.com"'}, (201, 409), {"name": 200}),
        Body("PATCH", partner, {"name": b'"A"'}, (200,), {"name": 200}),
        Body("PUT", partner, {"name": b'"A"'}, (200,), {"name": 200}),
        Body("POST", "/api/partnersystems", own | {"name": b'"S"', "type": b"1"}, (201,),
             {"name": 200, "description": 1000}),
        Body("PATCH", system, {"name": b'"S"', "type": b"1"}, (200,), {"name": 200, "description": 1000}),
        Body("POST", f"{system}/apikeys", {"name": b'"K"'}, (201,), {"name": 200}, is_optional=True),
        Body("POST", f"{system}/apikeys/{known.key}/rotate", {"graceSeconds": b"1"}, (201, 409), is_optional=True),
        Body("POST", "/api/eventstructures", schema | {"eventName": b'"hostile"'}, (201, 409),
             {"eventName": 200, "description": 1000}),
        Body("POST", f"{partner}/eventstructures", schema | {"eventName": b'"hostile"'}, (201, 409),
             {"eventName": 200, "description": 1000}),
        Body("POST", f"/api/eventstructures/{known.structure}/versions", schema, (201,)),
        Body("POST", "/api/tokens", {"name": b'"T"', "scope": b'"read"'}, (201,), {"name": 200}),
    ]  # fmt: skip


class Table:
    """The cases of all routes."""

    def __init__(self, token: str, known: RegisteredThings) -> None:
        self._known = known
        self._bearer = (b"Authorization", b"Bearer " + token.encode())

    def framing(self) -> list[Case]:
        """HTTP that is broken, with all that takes its time; for a route that may be called again and again."""
        return framing(self._route(bodies(self._known)[1]))

    def of_body(self, body: Body) -> list[Case]:
        """JSON, fields, texts and times of one route, and what breaks HTTP at once."""
        broken = [one for one in framing(self._route(body)) if one.statuses == {400}]
        cases = [*broken, *self._syntax(body), *self._fields(body), *self._texts(body), *self._tokens(body)]
        return named(f"{body.method} {body.path.split('-', 1)[0]}", cases)

    def normal(self) -> Route:
        """Return the request that must still work afterwards."""
        return Route("GET", f"/api/partners/{self._known.partner}".encode(), (self._bearer,), None, 200)

    def _route(self, body: Body) -> Route:
        return Route(body.method, body.path.encode(), (self._bearer,), _object(body.fields), body.statuses[0])

    def _sent(self, body: Body, raw: bytes, *more: tuple[bytes, bytes]) -> bytes:
        return Route(body.method, body.path.encode(), (self._bearer, *more), raw, 0).sent()

    def _with(self, body: Body, name: str, text: bytes) -> bytes:
        return self._sent(body, _object({**body.fields, name: text}))

    def _syntax(self, body: Body) -> Iterator[Case]:
        whole = _object(body.fields)
        for name, raw in (BROKEN | NEARLY_JSON).items():
            if raw == b"" and body.is_optional:
                continue
            yield case(f"JSON: {name}", self._sent(body, raw), 400, code="malformed_json")
        for name, value in SURROGATES.items():
            yield case(f"JSON: {name}", self._with(body, "name", value), 400, code="malformed_json")
        for name, raw in NO_OBJECT.items():
            yield case(f"JSON: {name}", self._sent(body, raw), 400, code="invalid_body")
        for size in range(1, len(whole)):
            yield case(f"JSON: cut after {size}", self._sent(body, whole[:size]), 400, code="malformed_json")
        packed = (b"Content-Encoding", b"gzip")
        yield case("gzip that is none", self._sent(body, b"\x1f\x8b\x08\x00", packed), 400)
        at = whole.ljust(_LIMIT_BYTES)
        yield case("as long as it may be", self._sent(body, at), *body.statuses)
        yield case("a byte longer", self._sent(body, at + b" "), 413, code="body_too_large")
        head = Route(body.method, body.path.encode(), (self._bearer,), None, 0).head(b"Transfer-Encoding: chunked")
        endless = [head, *[b"10000\r\n%b\r\n" % (b" " * 65536)] * 100]
        yield case("a body without end", endless, 413, 0, code="body_too_large")
        for kind, value in WRONG_TYPES.items():
            yield case(f"a field nobody knows is {kind}", self._with(body, "no", value), 400, code="invalid_body")
        for kind, shape in {
            "array": b"[%b]",
            "object": b'{"a":%b}',
            "string": b'"%b"',
            "array twice": b"[%b,%b]",
        }.items():
            raw = shape.replace(b"%b", whole.replace(b'"', b'\\"') if kind == "string" else whole)
            yield case(f"JSON: an {kind} around it", self._sent(body, raw), 400, code="invalid_body")
        yield case("a field of Python", self._with(body, "__class__", b"{}"), 400, code="invalid_body")

    def _fields(self, body: Body) -> Iterator[Case]:
        for name in (*body.fields, *(name for name in body.texts if name not in body.fields)):
            for kind, value in WRONG_TYPES.items():
                fine = _is_fine(name, value)
                statuses = body.statuses if fine else (400,)
                yield case(f"{name} is {kind}", self._with(body, name, value), *statuses)
        if "graceSeconds" in body.fields:
            for text, statuses in (("7776000", body.statuses), ("7776001", (400,)), ("null", (400,)), ('""', (400,))):
                yield case(f"graceSeconds of {text}", self._with(body, "graceSeconds", text.encode()), *statuses)
        for name in ("expiresAt",) if body.path.endswith(("apikeys", "tokens")) else ():
            for text in BAD_TIMES:
                # pydantic takes seconds since 1970 and a date alone; what has passed is refused by the domain
                sent = self._with(body, name, b'"%b"' % text.encode())
                yield case(f"{name} is {text!r}", sent, 400, *body.statuses)
            for text in ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", "2020-01-01"):
                yield case(f"{name} was {text}", self._with(body, name, b'"%b"' % text.encode()), 400)
            for text in ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "2100-01-01", "2100-01-01T00:00"):
                yield case(
                    f"{name} will be {text}", self._with(body, name, b'"%b"' % text.encode()), 400, *body.statuses
                )
            for kind, value in WRONG_TYPES.items():
                yield case(f"{name} is {kind}", self._with(body, name, value), 400, *body.statuses)

    def _texts(self, body: Body) -> Iterator[Case]:
        for name, most in body.texts.items():
            for letter in ("a", "\U0001f600"):
                at, past = (b'"%b"' % (letter * size).encode() for size in (most, most + 1))
                yield case(f"{name} of {most} {letter}", self._with(body, name, at), *body.statuses)
                yield case(f"{name} of {most + 1} {letter}", self._with(body, name, past), 400, code="invalid_body")
            yield case(f"{name} with NUL", self._with(body, name, b'"a\\u0000b"'), 400, code="invalid_body")
            yield case(f"{name} of SQL", self._with(body, name, b'"\'; drop table x--"'), *body.statuses)
            yield case(f"{name} with line breaks", self._with(body, name, b'"a\\r\\nb"'), *body.statuses, 400)
            yield case(f"{name} of spaces", self._with(body, name, b'"   "'), *body.statuses, 400)
            yield case(f"{name} of 200 KiB", self._with(body, name, b'"%b"' % (b"a" * 200_000)), 400)
        if "email" in body.fields:
            for text in ("a", "@", "a@", "@b", "a b@c.d", "a@b\\u0000.c", "a@b.c\\r\\nBcc: d@e.f", "a@@b.c", "é@b.c"):
                sent = self._with(body, "email", b'"%b"' % text.encode())
                yield case(f"email {text}", sent, 400, *(body.statuses if text in ("é@b.c", "a@@b.c") else ()))
            for size, statuses in ((255, body.statuses), (256, (400,))):
                address = b"a@" + b"b" * (size - 6) + b".com"
                yield case(f"email of {size}", self._with(body, "email", b'"%b"' % address), *statuses)

    def _tokens(self, body: Body) -> Iterator[Case]:
        for name, value in {
            "none": b"",
            "Bearer alone": b"Bearer",
            "Basic": b"Basic YTpi",
            "of 8 bits": b"Bearer \xff",
            "of another": b"Bearer tk_" + b"a" * 32,
            "of 20 000": b"Bearer " + b"a" * 20_000,
        }.items():
            headers = ((b"Authorization", value),)
            sent = Route(body.method, body.path.encode(), headers, _object(body.fields), 401).sent()
            yield case(f"a token {name}", sent, 401)

    def of_paths(self) -> list[Case]:
        """Ids in paths, and numbers of versions."""
        known = self._known
        keys = f"/api/partnersystems/{known.system}/apikeys/"
        versions = f"/api/eventstructures/{known.structure}/versions/"
        cases: list[Case] = []
        for method, shape in (
            ("GET", "/api/partners/%s"),
            ("PATCH", "/api/partners/%s"),
            ("POST", "/api/partners/%s/deactivate"),
            ("POST", "/api/partners/%s/activate"),
            ("GET", "/api/partners/%s/eventstructures"),
            ("GET", "/api/partnersystems/%s"),
            ("POST", "/api/partnersystems/%s/deactivate"),
            ("GET", "/api/partnersystems/%s/apikeys"),
            ("GET", keys + "%s"),
            ("POST", keys + "%s/revoke"),
            ("DELETE", keys + "%s"),
            ("POST", keys + "%s/rotate"),
            ("GET", "/api/eventstructures/%s"),
            ("GET", "/api/eventstructures/%s/versions"),
            ("GET", versions + "%s"),
            ("POST", versions + "%s/publish"),
            ("POST", versions + "%s/deprecate"),
            ("GET", "/api/tokens/%s"),
            ("DELETE", "/api/tokens/%s"),
        ):
            for name, text in {**ODD_IDS, **ODD_NUMBERS, "nobody's": _NOBODY}.items():
                target = shape.encode().replace(b"%s", text)
                sent = Route(method, target, (self._bearer,), b"{}" if method != "GET" else None, 404).sent()
                route = shape.replace(known.system, "").replace(known.structure, "")
                cases.append(case(f"{method} {route} of {name}", sent, 404))
        return cases

    def of_lists(self) -> list[Case]:
        """Pages and filters."""
        return [one for path, filters in {
            "/api/partners": ("isActive", "email"),
            "/api/partnersystems": ("isActive", "partnerId"),
            "/api/eventstructures": ("eventName",),
            "/api/tokens": (),
        }.items() for one in named(path, self._list(path, filters))]  # fmt: skip

    def _list(self, path: str, filters: tuple[str, ...]) -> Iterator[Case]:
        def asked(name: str, query: bytes, *statuses: int) -> Case:
            target = path.encode() + b"?" + query
            return case(f"?{name}", Route("GET", target, (self._bearer,), None, 200).sent(), *statuses)

        for field_, most in (("pageNumber", 1_000_000), ("pageSize", 1000)):
            for name, text in ODD_NUMBERS.items():
                yield asked(f"{field_}={name}", b"%b=%b" % (field_.encode(), text), 400)
            yield asked(f"{field_} at its limit", b"%b=%d" % (field_.encode(), most), 200)
            yield asked(f"{field_} past its limit", b"%b=%d" % (field_.encode(), most + 1), 400)
        yield asked("the last page there is", b"pageNumber=1000000&pageSize=1000", 200)
        yield asked("a parameter nobody knows", b"a=b", 400)
        yield asked("a parameter twice", b"pageSize=1&pageSize=1", 400)
        for field_ in filters:
            for name, text in ODD_TEXTS.items():
                is_text = field_ in ("email", "eventName") and "NUL" not in name
                yield asked(f"{field_}={name}", b"%b=%b" % (field_.encode(), text), 200 if is_text else 400)


def _object(fields: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), text) for name, text in fields.items())


def _is_fine(name: str, value: bytes) -> bool:
    """Whether a value of WRONG_TYPES is right for this field after all."""
    if name == "type":
        return value == b"5"
    if name == "graceSeconds":
        return value in (b"0", b"5", b"true", b"false", b"-0.0")
    if name == "schema":
        return value in (b"true", b"false", b"{}")
    return False
