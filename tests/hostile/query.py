"""Hostile requests to the three routes of query: parameters, cursors and ids."""

import base64
import struct
from collections.abc import Callable, Iterator
from urllib.parse import quote_from_bytes
from uuid import UUID

from tests.hostile.case import Case, case
from tests.hostile.framing import Route, framing
from tests.hostile.json_bytes import BAD_TIMES, GOOD_TIMES

# as they stand in the query, percent-encoded where a client would
ODD_TEXTS: dict[str, bytes] = {
    "NUL": b"%00",
    "a text with NUL": b"a%00b",
    "no UTF-8": b"%ff%fe",
    "a surrogate": b"%ed%a0%80",
    "too long a form": b"%c0%80",
    "half an encoding": b"%",
    "no hexadecimal": b"%zz",
    "a line break": b"%0d%0aSet-Cookie:%20a=b",
    "SQL": b"%27;drop%20table%20x--",
    "a pattern": b"%25%25__",
    "a backslash": b"%5c%5c",
    "a brace": b"{}",
    "JSON": b"%7b%22a%22%3a1%7d",
    "an emoji": b"%f0%9f%98%80",
    "right to left": b"%e2%80%ae",
    "a space": b"%20",
    "pluses": b"+++",
}
ODD_NUMBERS: dict[str, bytes] = {
    "zero": b"0",
    "minus one": b"-1",
    "a fraction": b"1.5",
    "an exponent": b"1e3",
    "hexadecimal": b"0x10",
    "a word": b"one",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "2**31": b"2147483648",
    "2**53": b"9007199254740992",
    "2**63": b"9223372036854775808",
    "2**64": b"18446744073709551616",
    "5 000 digits": b"9" * 5000,
    "a list": b"1,2",
    "NUL": b"%00",
    "digits of another script": b"%d9%a1%d9%a0%d9%a0%d9%a0%d9%a1",
    "true": b"true",
    "null": b"null",
    "no UTF-8": b"%ff",
}
ODD_IDS: dict[str, bytes] = {
    **{name: text for name, text in ODD_TEXTS.items() if name != "half an encoding"},
    "a number": b"5",
    "nothing but zeros but one": b"0" * 31,
    "33 digits": b"0" * 33,
    "no hexadecimal digit": b"g" * 32,
    "a word": b"undefined",
    "null": b"null",
    "10 000 characters": b"a" * 10_000,
    "two ids": b"00000000-0000-0000-0000-000000000000,00000000-0000-0000-0000-000000000000",
    "dots": b"...",
    "a tilde": b"~root",
    "a star": b"*",
}
SPELT_IDS: dict[str, Callable[[UUID], str]] = {
    "without hyphens": lambda given: given.hex,
    "in upper case": lambda given: str(given).upper(),
    "in braces": lambda given: f"%7b{given}%7d",
    "as a URN": lambda given: f"urn:uuid:{given}",
}
_LISTED = b"/api/events/partner-system/%b"


class Table:
    """The cases of one route: `list`, `statistics` or `event`."""

    def __init__(self, token: str, system_id: UUID, kind: str) -> None:
        self._id = system_id
        self._kind = kind
        self._bearer = (b"Authorization", b"Bearer " + token.encode())
        paths = {"list": b"", "statistics": b"/statistics"}
        self._status = 404 if kind == "event" else 200
        shape = b"/api/events/%b" if kind == "event" else _LISTED + paths[kind]
        self._shape = shape
        self.route = self._of(shape % str(system_id).encode())

    def cases(self) -> list[Case]:
        """All of them."""
        common = [*framing(self.route), *self._ids(), *self._tokens()]
        if self._kind == "event":
            # it takes no parameters, and does not mind any
            return [*common, *(self.asked(f"a={name}", b"a=" + text, 404) for name, text in ODD_TEXTS.items())]
        return [*common, *self._ranges(), *(self._filters() if self._kind == "list" else self._odd_names())]

    def asked(self, name: str, query: bytes, *statuses: int, code: str | None = None) -> Case:
        """The route with these parameters."""
        return case(f"?{name}", self.route.sent(target=self.route.target + b"?" + query), *statuses, code=code)

    def _of(self, target: bytes) -> Route:
        return Route("GET", target, (self._bearer,), None, self._status, is_reading=False)

    def _ids(self) -> Iterator[Case]:
        status = 404 if self._kind == "event" else 400
        for name, text in ODD_IDS.items():
            yield case(f"an id of {name}", self._of(self._shape % text).sent(), status)
        for name, spell in SPELT_IDS.items():
            yield case(f"an id {name}", self._of(self._shape % spell(self._id).encode()).sent(), self._status)
        for size in range(1, 36):
            cut = str(self._id)[:size].encode()
            yield case(f"an id cut after {size}", self._of(self._shape % cut).sent(), status)
        yield case("no id", self._of(self._shape % b"").sent(), 404)
        yield case("an id with a slash in it", self._of(self._shape % b"a%2fb").sent(), 404, status)

    def _tokens(self) -> Iterator[Case]:
        for name, value in {
            "none": b"",
            "Bearer alone": b"Bearer",
            "Bearer and a space": b"Bearer  ",
            "Basic": b"Basic YTpi",
            "of 8 bits": b"Bearer \xff\xfe",
            "of another": b"Bearer tk_" + b"a" * 32,
            "of 20 000": b"Bearer " + b"a" * 20_000,
            "of SQL": b"Bearer ' or 1=1--",
            "of two": b"Bearer a, Bearer b",
        }.items():
            headers = ((b"Authorization", value),)
            yield case(f"a token {name}", Route("GET", self.route.target, headers, None, 401).sent(), 401)
        yield case("two tokens", self.route.sent(self._bearer), 401)
        yield case("no token", Route("GET", self.route.target, (), None, 401).sent(), 401)

    def _ranges(self) -> Iterator[Case]:
        for field in ("startDate", "endDate"):
            for text in (*BAD_TIMES[1:], "5", "-1", "null", "2025-12-24T10:30:00.000000000000000000000000000000Z"):
                plain = text.replace("\\u0000", "\x00").encode().replace(b"\\uff12", "２".encode())
                yield self.asked(f"{field}={text}", b"%b=%b" % (field.encode(), _quoted(plain)), 400)
            for text in GOOD_TIMES:
                # far in the future is after every end, far in the past before every start
                yield self.asked(f"{field}={text}", b"%b=%b" % (field.encode(), _quoted(text.encode())), 200, 400)
            for name, odd in ODD_TEXTS.items():
                yield self.asked(f"{field}={name}", b"%b=%b" % (field.encode(), odd), 400)
            yield self.asked(f"{field} empty", field.encode() + b"=", 200)
            yield self.asked(f"{field} alone", field.encode(), 200)
            yield self.asked(f"{field} twice", b"%b=2025-01-01&%b=2025-01-01" % ((field.encode(),) * 2), 400)
            yield self.asked(f"{field}[]", field.encode() + b"[]=2025-01-01", 400)
        for name, start, end, status in (
            ("all of time", b"0001-01-01", b"9999-12-31", 200),
            ("the last microsecond", b"9999-12-31T23:59:59.999999Z", b"9999-12-31T23:59:59.999999Z", 200),
            ("the first", b"0001-01-01T00:00:00Z", b"0001-01-01T00:00:00Z", 200),
            ("the wrong way round", b"2025-12-02", b"2025-12-01", 400),
        ):
            yield self.asked(name, b"startDate=%b&endDate=%b" % (start, end), status)

    def _odd_names(self) -> Iterator[Case]:
        for name in (b"x", b"__proto__", b"startdate", b"start_date", b"pageSize", b"%00", b"%ff", b"a" * 10_000):
            # the names of fields are taken too
            yield self.asked(f"a parameter {name[:20]!r}", name + b"=2025-01-01", 200 if name == b"start_date" else 400)

    def _filters(self) -> Iterator[Case]:
        for field, most in (("eventName", 200), ("userId", 255), ("anonymousId", 255), ("correlationId", 100)):
            for name, text in ODD_TEXTS.items():
                yield self.asked(f"{field}={name}", b"%b=%b" % (field.encode(), text), 400 if "NUL" in name else 200)
            for letter in (b"a", b"%f0%9f%98%80"):
                for size, status in ((most, 200), (most + 1, 400)):
                    query = b"%b=%b" % (field.encode(), letter * size)
                    yield self.asked(f"{field} of {size} {letter!r}", query, status)
            yield self.asked(f"{field} twice", b"%b=a&%b=a" % ((field.encode(),) * 2), 400)
            yield self.asked(f"{field} empty", field.encode() + b"=", 200)
        for field, most_size in (("pageNumber", None), ("pageSize", 1000)):
            for name, text in ODD_NUMBERS.items():
                yield self.asked(f"{field}={name}", b"%b=%b" % (field.encode(), text), 400)
            if most_size:
                yield self.asked(f"{field} at its limit", b"%b=%d" % (field.encode(), most_size), 200)
                yield self.asked(f"{field} past its limit", b"%b=%d" % (field.encode(), most_size + 1), 400)
        yield self.asked("as deep as pages go", b"pageNumber=1001&pageSize=100", 200)
        yield self.asked("a page deeper", b"pageNumber=1002&pageSize=100", 400, code="page_too_deep")
        for name, text in {**ODD_NUMBERS, **ODD_TEXTS}.items():
            fine = name in ("zero", "true")
            yield self.asked(f"isValid={name}", b"isValid=" + text, 200 if fine else 400)
        yield from self._cursors()

    def _cursors(self) -> Iterator[Case]:
        for name, text in {**ODD_TEXTS, **ODD_NUMBERS}.items():
            yield self.asked(f"cursor={name}", b"cursor=" + text, 400)
        pack = struct.Struct(">q16sqq8s").pack
        for name, numbers in {
            "zeros": (0, 0, 0),
            "the largest": (2**63 - 1,) * 3,
            "the smallest": (-(2**63),) * 3,
            "one past the last time": (253402300800000000,) * 3,
            "one before the first": (-62135596800000001,) * 3,
        }.items():
            packed = pack(numbers[0], b"\xff" * 16, numbers[1], numbers[2], b"\x00" * 8)
            text = base64.urlsafe_b64encode(packed).rstrip(b"=")
            yield self.asked(f"a cursor of {name}", b"cursor=" + text, 400, code="invalid_cursor")
            yield self.asked(f"a cursor of {name}, a byte less", b"cursor=" + text[:-2], 400, code="invalid_cursor")
            yield self.asked(
                f"a cursor of {name}, padded", b"cursor=" + text + b"%3d%3d%3d", 400, code="invalid_cursor"
            )
        yield self.asked("a cursor of 200", b"cursor=" + b"A" * 200, 400, code="invalid_cursor")
        yield self.asked("a cursor of 201", b"cursor=" + b"A" * 201, 400, code="invalid_parameters")
        yield from self._odd_names_of_list()

    def _odd_names_of_list(self) -> Iterator[Case]:
        for name in (b"x", b"__proto__", b"pagesize", b"%00", b"%ff", b"filter[a]", b"a" * 10_000):
            yield self.asked(f"a parameter {name[:20]!r}", name + b"=1", 400)


def _quoted(text: bytes) -> bytes:
    return quote_from_bytes(text, safe="").encode()
