"""SQL of `write.idempotency_keys`: inserted by the gateway in the transaction of the events."""

from collections.abc import Collection, Mapping
from datetime import datetime

from tracking.domain.idempotency_key import IdempotencyKey
from tracking.infra import copy_binary
from tracking.infra.copy_binary import Columns, Encoder
from tracking.infra.postgres import Connection, Pool

IDEMPOTENCY_KEY_ENCODERS: Mapping[str, Encoder] = {
    "partner_system_id": copy_binary.encode_uuids,
    "id": copy_binary.encode_uuids,
    "fingerprint": copy_binary.encode_uuids,
    "created_at": copy_binary.encode_timestamps,
}


def to_columns(keys: Collection[IdempotencyKey], created_at: datetime) -> Columns:
    """Return rows as columns, in the order of `IDEMPOTENCY_KEY_ENCODERS`."""
    return [*zip(*sorted(keys), strict=True), [created_at] * len(keys)]


_SELECT_USED = """
select known.partner_system_id, known.id, known.fingerprint
  from unnest($1::uuid[], $2::uuid[]) as given (partner_system_id, id)
 cross join lateral (
           select stored.partner_system_id, stored.id, stored.fingerprint
             from write.idempotency_keys as stored
            where stored.partner_system_id = given.partner_system_id
              and stored.id = given.id
            limit 1
       ) as known
"""


async def list_used_keys(connection: Connection, keys: Collection[IdempotencyKey]) -> list[IdempotencyKey]:
    """Return what is stored under the places of these keys, with the bodies that came with it."""
    systems, ids, _ = zip(*keys, strict=True)
    return [IdempotencyKey(*row) for row in await connection.fetch(_SELECT_USED, systems, ids)]


_SELECT_OF_OTHER_BODIES = """
select given.partner_system_id, given.id, given.fingerprint
  from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given (partner_system_id, id, fingerprint)
  join write.idempotency_keys as known
    on known.partner_system_id = given.partner_system_id
   and known.id = given.id
 where known.fingerprint <> given.fingerprint
"""


async def list_keys_of_other_bodies(
    connection: Connection | Pool, keys: Collection[IdempotencyKey]
) -> frozenset[IdempotencyKey]:
    """Return the keys that were used before with another body."""
    rows = await connection.fetch(_SELECT_OF_OTHER_BODIES, *zip(*sorted(keys), strict=True))
    return frozenset(IdempotencyKey(*row) for row in rows)
