"""An Idempotency-Key as it is kept: which request it was used for first (draft-ietf-httpapi-idempotency-key-header)."""

from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from tracking.domain.ids import derive_event_id


class IdempotencyKey(NamedTuple):
    """A key of a partner system, and the fingerprint of the body that came with it."""

    partner_system_id: UUID
    id: UUID
    fingerprint: UUID


def make_idempotency_key(partner_system_id: UUID, key: str, body: bytes) -> IdempotencyKey:
    """Return what is kept of a request with this header and this body (decompressed)."""
    fingerprint = UUID(bytes=blake2b(body, digest_size=16).digest())
    return IdempotencyKey(partner_system_id, derive_event_id(partner_system_id, key, None, is_name=True), fingerprint)
