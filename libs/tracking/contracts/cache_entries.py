"""What admin writes into Redis and the others read: one dataclass a kind, as JSON.

An unreadable entry decodes to None and counts as absent, so that a newer or older writer never breaks a reader.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson

from tracking.contracts.system_settings import decode_settings, encode_settings, parse_settings
from tracking.domain.system_settings import DEFAULT_SETTINGS, SystemSettings


@dataclass(frozen=True, slots=True)
class _Entry:
    def encode(self) -> bytes:
        """JSON with the fields' own names."""
        return orjson.dumps(
            {item.name: getattr(self, item.name) for item in fields(self)},
            default=_plain,
            option=orjson.OPT_PASSTHROUGH_DATACLASS,
        )

    @classmethod
    def decode(cls, data: bytes | str) -> Self | None:
        """The entry, or None if `data` is not one of these."""
        try:
            raw = orjson.loads(data)
            hints = get_type_hints(cls)
            return cls(
                **{
                    item.name: _restore(raw[item.name], hints[item.name])
                    for item in fields(cls)
                    if item.default is MISSING or item.name in raw
                }
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class ApiKeyEntry(_Entry):
    """Under `partner_system:apikey:{sha256}`: all that decides about a request with this key.

    The settings are read once, when the entry is made. An entry of an older writer has none: the defaults.
    """

    key_id: UUID
    expires_at: datetime | None
    revoked_at: datetime | None
    partner_system_id: UUID
    system_name: str
    is_system_active: bool
    partner_id: UUID
    partner_name: str
    is_partner_active: bool
    settings: SystemSettings = DEFAULT_SETTINGS

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From columns of the fields' names, `settings` as the JSON text of its jsonb. Raises ValueError."""
        return cls(**{**row, "settings": decode_settings(row["settings"])})


@dataclass(frozen=True, slots=True)
class AccessTokenEntry(_Entry):
    """Under `access_token:{sha256}`: scope `admin` or `read`; partner_id None = all partners."""

    token_id: UUID
    scope: str
    partner_id: UUID | None
    expires_at: datetime | None
    revoked_at: datetime | None


def _plain(value: Any) -> Any:
    if isinstance(value, SystemSettings):
        return orjson.Fragment(encode_settings(value))
    # the UUIDs of asyncpg are a subclass that orjson does not take
    return str(value)


def _restore(value: Any, hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is SystemSettings:
        return parse_settings(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not {hint}")
    if hint is UUID:
        return UUID(value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    return value


def make_api_key_cache_key(key_sha256_hex: str) -> str:
    """Everything the gateway must know of an API key; named by its hash, so that no key stands in Redis."""
    return f"partner_system:apikey:{key_sha256_hex}"


def make_partner_system_cache_key(system_id: object) -> str:
    """A partner system as admin shows it."""
    return f"partner_system:{system_id}"


def make_access_token_cache_key(token_sha256_hex: str) -> str:
    """Scope and life of a bearer token, by its hash."""
    return f"access_token:{token_sha256_hex}"


def make_event_structure_cache_key(partner_id: object | None, event_name: str) -> str:
    """The structures of an event name: the global one, or that of one partner."""
    if partner_id is None:
        return f"event_structure:{event_name}"
    return f"partner_event_structure:{partner_id}:{event_name}"
