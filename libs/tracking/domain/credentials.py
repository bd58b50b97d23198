"""Secrets that are shown once: how they are made, and the fingerprint that is stored of each."""

import re
import secrets
import string
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Self

_ALPHABET = string.digits + string.ascii_letters
_CHARACTERS = 32
_API_KEY = re.compile(rf"sk_[0-9A-Za-z]{{{_CHARACTERS}}}")
SecretPrefix = Literal["sk_", "tk_"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The SHA-256 of a secret, with its prefix and last four characters, by which a person recognizes it."""

    sha256: bytes
    prefix: str
    last_four: str

    def __post_init__(self) -> None:
        if len(self.sha256) != 32:
            raise ValueError("a SHA-256 has 32 bytes")

    @classmethod
    def from_secret(cls, secret: str) -> Self:
        """Hash a secret. A plain SHA-256 is enough: 32 random base62 characters (190 bits) cannot be guessed."""
        return cls(sha256(secret.encode()).digest(), secret[:3], secret[-4:])


def has_api_key_shape(secret: str) -> bool:
    """Return whether `generate_secret` could have made this API key, so that it is worth looking up."""
    return _API_KEY.fullmatch(secret) is not None


def generate_secret(prefix: SecretPrefix) -> str:
    """Return a new secret from the system's random source: `sk_…` for API keys, `tk_…` for access tokens."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))
