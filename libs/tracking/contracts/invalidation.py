"""Invalidations: messages on `cache:invalidate` that say which cached entry has changed.

Admin publishes them after it has written the new entry to Redis. Gateways and query drop the entry from the memory of
their process and look it up again when it is next needed. The schema stands beside this file
(invalidation.schema.json), good and bad examples in `examples/`.

Redis delivers a message to those who are subscribed at that moment, and to nobody later. A subscriber must therefore
drop everything when it has subscribed again. Credentials do not depend on these messages at all: the numbered changes
in the write database decide about them (tables/credential_changes.py), and a message only makes a change known sooner.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

INVALIDATION_CHANNEL = "cache:invalidate"
# How long a process relies on the changes of credentials that it has read. Admin answers a revocation after as long,
# when no process can rely any more on what it read before the revocation was committed.
CREDENTIAL_TRUST_S = 0.8
InvalidationKind = Literal["api_key", "access_token", "structure", "all"]
_KINDS = frozenset(get_args(InvalidationKind))
_CREDENTIALS = frozenset({"api_key", "access_token"})
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Says what to drop: one API key, one access token, all event structures, or everything.

    `sha256` names the API key or the token by the hash of its secret, in hexadecimal; the other kinds have none.
    Raises ValueError for any other combination.
    """

    kind: InvalidationKind
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"{self.kind!r} is no kind of invalidation")
        if self.kind not in _CREDENTIALS and self.sha256 is not None:
            raise ValueError(f"an invalidation of kind {self.kind} names no hash")
        if self.kind in _CREDENTIALS and not _SHA256.fullmatch(self.sha256 or ""):
            raise ValueError(f"an invalidation of kind {self.kind} names the hash of a secret")


EVERYTHING = Invalidation("all")


def encode(invalidation: Invalidation) -> bytes:
    """Encode the invalidation as the body of a message."""
    message: dict[str, str] = {"kind": invalidation.kind}
    if invalidation.sha256 is not None:
        message["sha256"] = invalidation.sha256
    return orjson.dumps(message)


def decode(body: bytes) -> Invalidation:
    """Decode the body of a message. An unreadable body or an unknown kind is returned as EVERYTHING.

    A newer admin may announce a change that this process does not know. Dropping too much is slow, but never wrong.
    Members other than `kind` and `sha256` are ignored: an older admin sends the name of an event structure too.
    """
    try:
        return _decode(orjson.loads(body))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return EVERYTHING


def _decode(raw: Any) -> Invalidation:
    kind = raw.get("kind")
    return Invalidation(kind, raw.get("sha256") if kind in _CREDENTIALS else None)
