"""The correlation id of the current work, from `X-Correlation-ID` or generated, carried by a context variable."""

import random
import re
from contextvars import ContextVar

CORRELATION_ID_HEADER = "X-Correlation-ID"
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,100}")
_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def accept_or_generate(value: str | None) -> str:
    """Return `value` if it is 1..100 of `[A-Za-z0-9._-]`, else 32 random hexadecimal digits."""
    if value is not None and _ACCEPTED.fullmatch(value):
        return value
    # not a secret, so no system call for it; Python seeds this generator from the system at start
    return f"{random.getrandbits(128):032x}"


def set_current(correlation_id: str) -> None:
    """Set the correlation id of this task and of the tasks it starts."""
    _current.set(correlation_id)


def get_current() -> str | None:
    """Return the current correlation id, or None outside any request or message."""
    return _current.get()
