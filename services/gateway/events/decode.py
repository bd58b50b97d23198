r"""JSON as senders write it: half of a surrogate pair does not make a whole batch unreadable.

JavaScript that cuts a text inside an emoji sends `"\ud83d"`, which RFC 8259 allows and orjson (as PostgreSQL) does not
read. It becomes `\u0000`, so that its event alone is stored with U+FFFD and flagged.
"""

import re
from typing import Any

import orjson

# a larger body would hold up others for too long
_MENDED_BYTES = 1024 * 1024
_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"[dD][89abAB]" + _HEX * 2, rb"[dD][c-fC-F]" + _HEX * 2
# the escape comes first, as a literal is what `re` finds fast; then, that its backslash is not itself escaped
_HALF_PAIR = re.compile(
    rb"\\u(?<!\\\\u)(?:" + _HIGH + rb"(?!\\u" + _LOW + rb")|(?<!\\u" + _HIGH + rb"\\u)" + _LOW + rb")"
)


def read_json(body: bytes) -> Any:
    """Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if len(body) > _MENDED_BYTES:
            raise
        mended, count = _HALF_PAIR.subn(rb"\\u0000", body)
        if not count:
            raise
        return orjson.loads(mended)
