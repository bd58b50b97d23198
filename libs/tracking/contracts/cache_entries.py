"""Entries of the registry in Redis, as JSON: admin writes them, and gateway, query and admin read them.

There is a dataclass for each kind, and every field of it has a reader. Good and bad examples stand in `examples/`. An
unreadable entry decodes to None and counts as absent, so that a newer or older writer never breaks a reader. Members
that a reader does not know are ignored.

Entries of credentials say in `generation` up to which change of credentials they are true, and a reader uses none that
lacks a later change (tables/credential_changes.py). Two entries that differ in it alone are equal.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from types import UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson

from tracking.contracts.system_settings import decode_settings, encode_settings, parse_settings
from tracking.domain.partner import PartnerSystem, SystemType
from tracking.domain.system_settings import DEFAULT_SETTINGS, SystemSettings


@dataclass(frozen=True, slots=True)
class _Entry:
    # the names of fields in JSON, where they are not the fields' own
    _json_names: ClassVar[Mapping[str, str]] = {}

    def encode(self) -> bytes:
        """Encode the entry as JSON."""
        names = self._json_names
        return orjson.dumps(
            {names.get(item.name, item.name): getattr(self, item.name) for item in fields(self)},
            default=_plain,
            option=orjson.OPT_PASSTHROUGH_DATACLASS,
        )

    @classmethod
    def decode(cls, data: bytes | str) -> Self | None:
        """Decode an entry of this kind from JSON. Return None if `data` is not one."""
        try:
            raw = orjson.loads(data)
            hints = get_type_hints(cls)
            names = {item.name: cls._json_names.get(item.name, item.name) for item in fields(cls)}
            return cls(
                **{
                    item.name: _restore(raw[names[item.name]], hints[item.name])
                    for item in fields(cls)
                    if item.default is MISSING or names[item.name] in raw
                }
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class ApiKeyEntry(_Entry):
    """Under `partner_system:apikey:{sha256}`: all that decides about a request with this key.

    The settings are read once, when the entry is made. An entry of an older writer has none: the defaults. Nor has it a
    generation, so it is never used.
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
    generation: int = field(default=0, compare=False)

    @property
    def owner_ids(self) -> tuple[UUID, ...]:
        """The partner system and the partner, whose changes change this entry."""
        return (self.partner_system_id, self.partner_id)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From columns of the fields' names, `settings` as the JSON text of its jsonb. Raises ValueError."""
        return cls(**{**row, "settings": decode_settings(row["settings"])})


@dataclass(frozen=True, slots=True)
class AccessTokenEntry(_Entry):
    """Under `access_token:{sha256}`: scope `admin` or `read`; partner_id None = all partners, then always active."""

    scope: str
    partner_id: UUID | None
    expires_at: datetime | None
    revoked_at: datetime | None
    is_partner_active: bool = True
    generation: int = field(default=0, compare=False)

    @property
    def owner_ids(self) -> tuple[UUID, ...]:
        """The partner, whose changes change this entry."""
        return () if self.partner_id is None else (self.partner_id,)


@dataclass(frozen=True, slots=True)
class PartnerSystemEntry(_Entry):
    """Under `partner_system:{id}`: a partner system as admin shows it; `updated_at` rises with each change.

    Whether it is active follows from `deactivated_at`. The names in JSON are those of admin's API.
    """

    _json_names: ClassVar[Mapping[str, str]] = {
        "partner_id": "partnerId",
        "deactivated_at": "deactivatedAt",
        "created_at": "createdAt",
        "updated_at": "updatedAt",
    }

    id: UUID
    partner_id: UUID
    name: str
    type: SystemType
    description: str
    settings: SystemSettings
    deactivated_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_system(cls, system: PartnerSystem) -> Self:
        """The entry of a system as it was loaded."""
        return cls(**{item.name: getattr(system, item.name) for item in fields(cls)})

    def to_system(self) -> PartnerSystem:
        """The system as if it had been loaded from the database."""
        return PartnerSystem.restore(**{item.name: getattr(self, item.name) for item in fields(self)})


@dataclass(frozen=True, slots=True)
class EventStructureEntry:
    """Under `event_structure:{name}`, or `partner_event_structure:{partner}:{name}`: all schemas but drafts.

    `schemas` has a JSON Schema for each version: decoded, or when it is written an orjson.Fragment of its JSON text.
    """

    structure_id: UUID
    schemas: Mapping[int, Any]

    def encode(self) -> bytes:
        """Encode the entry as JSON."""
        versions = [{"version": version, "schema": schema} for version, schema in self.schemas.items()]
        return orjson.dumps({"structureId": str(self.structure_id), "versions": versions})

    @classmethod
    def decode(cls, data: bytes | str) -> Self | None:
        """Decode an entry from JSON. Return None if `data` is not one."""
        try:
            raw = orjson.loads(data)
            structure_id = _restore(raw["structureId"], UUID)
            return cls(structure_id, dict(_read_version(version) for version in raw["versions"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None


def _read_version(raw: Any) -> tuple[int, Any]:
    version, schema = raw["version"], raw["schema"]
    if type(version) is not int or not isinstance(schema, dict | bool):
        raise TypeError("a version has a number and a schema")
    return version, schema


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
    if hint in (bool, int):
        if type(value) is not hint:
            raise TypeError(f"{value!r} is no {hint.__name__}")
        return value
    if hint is SystemSettings:
        return parse_settings(value)
    if hint is SystemType:
        return SystemType(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not {hint}")
    if hint is UUID:
        return UUID(value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    return value


def make_api_key_cache_key(key_sha256_hex: str) -> str:
    """Return the Redis key of an API key's entry. It has the key's hash, so that Redis holds no secret."""
    return f"partner_system:apikey:{key_sha256_hex}"


def make_partner_system_cache_key(partner_system_id: object) -> str:
    """Return the Redis key of a partner system's entry."""
    return f"partner_system:{partner_system_id}"


def make_access_token_cache_key(token_sha256_hex: str) -> str:
    """Return the Redis key of an access token's entry, which is found by the hash of the token."""
    return f"access_token:{token_sha256_hex}"


def make_event_structure_cache_key(partner_id: object | None, event_name: str) -> str:
    """Return the Redis key of the structures of an event name: the global one, or that of one partner."""
    if partner_id is None:
        return f"event_structure:{event_name}"
    return f"partner_event_structure:{partner_id}:{event_name}"
