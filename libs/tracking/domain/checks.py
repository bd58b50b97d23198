"""Checks that several aggregates share: each returns the normalised value or raises Malformed."""

import re
from datetime import UTC, datetime

from tracking.domain.errors import Malformed

# This catches typing errors. Only a message that arrives proves that an address exists.
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
MAX_NAME_CHARACTERS, MAX_EMAIL_CHARACTERS, MAX_DESCRIPTION_CHARACTERS = 200, 255, 1000


def check_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """Return `expires_at` in UTC. Raises Malformed if it has no offset or is not in the future."""
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        raise _bad_expiry("must have Z or an offset")
    try:
        in_utc = expires_at.astimezone(UTC)
    except OverflowError as error:
        raise _bad_expiry("must lie before the year 10000") from error
    if in_utc <= now:
        raise _bad_expiry("must lie in the future")
    return in_utc


def _bad_expiry(message: str) -> Malformed:
    return Malformed("invalid_body", f"expiresAt: {message}.", [{"field": "expiresAt", "message": message}])


def check_text(field: str, value: str, least: int, most: int) -> str:
    """Return `value` without surrounding space.

    Raises Malformed if it contains NUL, or does not have `least` to `most` characters.
    """
    stripped = value.strip()
    if not least <= len(stripped) <= most or "\x00" in stripped:
        message = f"must have {least} to {most} characters"
        raise Malformed("invalid_body", f"{field}: {message}.", [{"field": field, "message": message}])
    return stripped


def check_email(value: str) -> str:
    """Return the trimmed address. Raises Malformed if it is not a plausible email address."""
    stripped = check_text("email", value, 3, MAX_EMAIL_CHARACTERS)
    if not _EMAIL.fullmatch(stripped):
        fault = {"field": "email", "message": "not an address such as admin@acme.com"}
        raise Malformed("invalid_body", f"email: {fault['message']}.", [fault])
    return stripped
