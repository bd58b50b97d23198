"""The only hierarchy of errors, ordered by the action that each requires of the caller.

    TrackingError
    ├── Rejected            the sender must change something; never retry as is
    │   ├── Malformed       400  the bytes or fields cannot be what they claim
    │   ├── Unauthenticated 401  no key or token, or one that is not (any longer) known
    │   ├── Forbidden       403  known, but not allowed: deactivated, or outside its scope
    │   ├── NotFound        404  nothing there that this caller may see
    │   ├── Conflict        409  a unique thing exists already, or the state does not allow it
    │   ├── TooLarge        413  over a limit that the message names
    │   ├── TooCostly       422  understood, but to answer it would take more than is allowed; ask for less
    │   ├── Unprocessable   422  understood, but it contradicts an earlier request
    │   └── TooManyRequests 429  faster than allowed; `retry_after_s` says when to come back
    └── Unavailable         503  nothing wrong with the input; try again after `retry_after_s`

Anything else that is raised is a bug: 500 at the HTTP edge, a dead letter (within its limit) in a worker.
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class TrackingError(Exception):
    """Base of all errors that have a meaning for the sender. `code` is stable and machine-readable (snake_case)."""

    status: ClassVar[int] = 500

    def __init__(self, code: str, message: str, details: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)


class Rejected(TrackingError):
    """The input is rejected. The sender must change something before a retry can succeed."""

    status = 400


class Malformed(Rejected):
    """The bytes or the fields are not valid; `details` has one `{field, message}` for each field error."""

    status = 400


class Unauthenticated(Rejected):
    """The request has no credential, or one that is unknown, revoked or expired."""

    status = 401


class Forbidden(Rejected):
    """The credential is known but does not permit this request."""

    status = 403


class NotFound(Rejected):
    """Nothing that this caller may see exists at this place."""

    status = 404


class Conflict(Rejected):
    """A unique value is already in use, or the current state does not allow the change."""

    status = 409


class TooLarge(Rejected):
    """The input exceeds a limit. The message names the limit and its value."""

    status = 413


class TooCostly(Rejected):
    """The question is understood, but its answer would take more than it may; `details` says how to ask for less."""

    status = 422


class Unprocessable(Rejected):
    """The input is valid in itself but contradicts an earlier request of the same sender."""

    status = 422


class TooManyRequests(Rejected):
    """The sender exceeded its rate limit.

    `limit` is in events a second and `remaining` of them are left. The sender may retry after `retry_after_s` whole
    seconds.
    """

    status = 429

    def __init__(self, code: str, message: str, retry_after_s: int, limit: int, remaining: int) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s
        self.limit = limit
        self.remaining = remaining


class Unavailable(TrackingError):
    """Nothing is wrong with the input. The caller may try again after `retry_after_s` whole seconds."""

    status = 503

    def __init__(self, code: str, message: str, retry_after_s: int = 1) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s
