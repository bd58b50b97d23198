"""Reads what can be read of a batch that is not JSON, element by element.

A strict parser loses all events of a batch for one that it cannot read, and an SDK then drops all of them. Here the
batch is cut into its elements by brackets and strings alone, so an element that cannot be read is rejected alone, as
it was sent. The cut is where the element's brackets close. If they do not close, it is where the surroundings show that
the element is over: at a bracket that closes something around it, or at an object that stands where a name must stand.

Streaming parsers (ijson, json-stream) stop at the first error, and parsers that guess (json5, json-repair) change
values without saying so, so none of them does this. The work is linear in the size of the body, and limited: `Reader`
counts each step and each byte that a pattern passes over.
"""

import re
from typing import Any

import orjson

from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.lenient_json import decode_leniently
from services.gateway.events.rejection import Rejection
from tracking.domain.errors import Malformed, TooLarge

BYTES_PER_STEP = 4
"""There may be a step, which takes half a microsecond, for so many bytes. Messages of SDKs have a bracket in 35."""
FREE_STEPS = 1_000
MAX_PASSES = 4
"""How often patterns may pass over the body: once, but for elements whose brackets or strings do not close."""
# What is nested deeper is no event; it only has to end somewhere.
_MAX_DEPTH = 256

# No pattern can go back over what it has taken, so each takes time in proportion to what it passes over.
_WHITE_SPACE = b" \t\r\n"
_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SKIP_IN_ARRAY = re.compile(rb'(?:[^\[\]{}"]++|' + _STRING + rb")*+", re.S)
# A comma before an object cannot stand in an object, so it ends the element.
_SKIP_IN_OBJECT = re.compile(rb'(?:[^\[\]{}",]++|' + _STRING + rb"|,(?!" + _SPACE + rb"\{))*+", re.S)
_SKIP_SPACE = re.compile(_SPACE)
_SKIP_SEPARATORS = re.compile(rb"[ \t\r\n,]*+")
_SKIP_SCALAR = re.compile(rb'(?:[^\[\]{}",]++|' + _STRING + rb")*+", re.S)
_SKIP_TO_COMMA = re.compile(rb'(?:[^\[\]",]++|' + _STRING + rb")*+", re.S)
_NAME = re.compile(rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.S)
# Where the next element begins after a string without an end: at an object with a member that events have.
_NEXT_ELEMENT = re.compile(
    rb"," + _SPACE + rb"\{" + _SPACE + rb'"(?:eventName|event|type|userId|anonymousId|messageId|eventId|eventTimestamp'
    rb"|timestamp|originalTimestamp|sentAt|eventProperties|properties|context|traits|integrations|channel|_metadata"
    rb'|eventType|groupId|previousId|name)"'
)
_CLOSING = {ord("["): ord("]"), ord("{"): ord("}")}
_COMMA, _QUOTE, _OBJECT = ord(","), ord('"'), ord("{")


def decode_element(raw: bytes) -> Any:
    """Decode one element: its value, a FlaggedEnvelope if it had to be changed, or a Rejection if it is not JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        try:
            value, flags = decode_leniently(raw)
        except ValueError:
            return Rejection("malformed_json", f"This element is not JSON: {fault}.", raw=raw)
    if isinstance(value, dict):
        return FlaggedEnvelope(value, flags, raw)
    return Rejection("invalid_event", "An event must be a JSON object.", raw=raw)


def salvage_batch(body: bytes, array_name: str, max_elements: int) -> Any:
    """Return what can be read of `[…]` or `{array_name: […], …}`, with the elements decoded one by one.

    None if it is neither, or if it ends early and nothing of it can be read. Raises TooLarge for too many elements,
    Malformed if reading it would take too long.
    """
    return Reader(body, max_elements).read_batch(array_name)


class Reader:
    """Reads one body from its beginning to its end, with limited work, which `_advance` and `_count_work` count."""

    def __init__(self, body: bytes, max_elements: int) -> None:
        self._steps_left = FREE_STEPS + len(body) // BYTES_PER_STEP
        self._passes_left_bytes = MAX_PASSES * len(body)
        self._body = body
        self._max_elements = max_elements
        self._is_cut = False

    def read_batch(self, array_name: str) -> Any:
        """As `salvage_batch`."""
        body = self._body
        start = self._advance(_SKIP_SPACE, 0)
        if body.startswith(b"[", start):
            elements, position = self._read_elements(start + 1)
            found: Any = elements
        elif body.startswith(b"{", start):
            found, position = self._read_members(start + 1, array_name)
            elements = found.get(array_name)
            if not isinstance(elements, list):
                return None
        else:
            return None
        rest = body[position:].strip()
        if rest:
            elements.append(Rejection("malformed_json", "These bytes follow the end of the batch.", raw=rest))
        is_worthless = self._is_cut and all(isinstance(element, Rejection) for element in elements)
        return None if is_worthless else found

    def _read_members(self, position: int, array_name: str) -> tuple[dict[str, Any], int]:
        """Read the members of the object that is open at `position`; return them and where it ends."""
        members: dict[str, Any] = {}
        while True:
            position = self._advance(_SKIP_SEPARATORS, position)
            if self._body.startswith(b"}", position):
                return members, position + 1
            name = _NAME.match(self._body, position)
            if name is None:
                self._is_cut = self._is_cut or position >= len(self._body)
                return members, position
            self._count_work(name.end() - position)
            key, start = decode_element(name[1]), name.end()
            if key == array_name and self._body.startswith(b"[", start):
                members[array_name], position = self._read_elements(start + 1)
                continue
            position = self._find_end(start)
            value = decode_element(self._body[start:position])
            if isinstance(key, str) and not isinstance(value, Rejection):
                members[key] = value

    def _read_elements(self, position: int) -> tuple[list[Any], int]:
        """Read the elements of the array that is open at `position`; return them and where it ends."""
        elements: list[Any] = []
        while True:
            position = self._advance(_SKIP_SEPARATORS, position)
            if position >= len(self._body):
                self._is_cut = True
                return elements, position
            if self._body.startswith(b"]", position):
                return elements, position + 1
            end = self._find_end_of_element(position)
            elements.append(decode_element(self._body[position:end].rstrip(_WHITE_SPACE)))
            if len(elements) > self._max_elements:
                raise TooLarge("too_many_events", f"More than {self._max_elements} events, the limit of a batch.")
            position = end

    def _find_end_of_element(self, start: int) -> int:
        """Return where the element ends, with what follows it up to the next comma; an object may lack that comma."""
        end = max(self._find_end(start), start + 1)
        after = self._advance(_SKIP_SPACE, end)
        if after >= len(self._body) or self._body.startswith((b",", b"]", b"{"), after):
            return end
        return max(self._advance(_SKIP_TO_COMMA, after), after + 1)

    def _find_end(self, start: int) -> int:
        """Return where the value ends that begins at `start`, as well as its brackets tell."""
        if not self._body.startswith((b"{", b"["), start):
            return self._advance(_SKIP_SCALAR, start)
        open_brackets = bytearray((self._body[start],))
        position = start + 1
        while len(open_brackets) <= _MAX_DEPTH:
            position = self._advance(_SKIP_IN_OBJECT if open_brackets[-1] == _OBJECT else _SKIP_IN_ARRAY, position)
            stop = self._body[position] if position < len(self._body) else _QUOTE
            if stop == _QUOTE:
                break
            if stop == _COMMA:
                return position
            if stop in _CLOSING:
                open_brackets.append(stop)
            else:
                while open_brackets and _CLOSING[open_brackets[-1]] != stop:
                    open_brackets.pop()
                if not open_brackets:
                    return position
                open_brackets.pop()
                if not open_brackets:
                    return position + 1
            position += 1
        return self._find_next_element(start)

    def _find_next_element(self, start: int) -> int:
        """Return the comma before what looks like the next event, or the end of the body."""
        found = _NEXT_ELEMENT.search(self._body, start + 1)
        end = len(self._body) if found is None else found.start()
        self._count_work(end - start)
        self._is_cut = self._is_cut or found is None
        return end

    def _advance(self, pattern: re.Pattern[bytes], position: int) -> int:
        """Return where the pattern ends that matches at `position`."""
        found = pattern.match(self._body, position)
        end = position if found is None else found.end()
        # A quote that ends a match begins a string without an end, and the pattern has looked for that end.
        has_sought = self._body.startswith(b'"', end)
        self._count_work((len(self._body) if has_sought else end) - position)
        return end

    def _count_work(self, passed_bytes: int) -> None:
        self._steps_left -= 1
        self._passes_left_bytes -= passed_bytes
        if self._steps_left < 0 or self._passes_left_bytes < 0:
            raise Malformed("malformed_json", "The body is not JSON, and reading what it holds would take too long.")
