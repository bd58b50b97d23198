"""Finds the address of the client that sent a request through trusted proxies.

Proxies say it in `X-Forwarded-For`, in `Forwarded` (RFC 7239) or in a header of their own. No library reads these from
an ASGI scope with a list of trusted proxies: uvicorn's own middleware knows only `X-Forwarded-For`, without ports.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddressHeader = Literal["X-Forwarded-For", "Forwarded", "CF-Connecting-IP", "True-Client-IP", "X-Real-IP"]

_X_FORWARDED_FOR, _FORWARDED = b"x-forwarded-for", b"forwarded"
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+))(?::[\w.-]*)?")
# One pair of an element (RFC 7239, 4), or the comma that ends the element. The alternatives begin with different
# characters, so a text is read once, from left to right.
_FORWARDED_PART = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*))|(,)|[^,]')
_MAX_HEADER_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class ClientAddressFinder:
    """Which proxies are believed, and what they say.

    `header` is the header that they set. If it is None, it is `X-Forwarded-For`, and without that `Forwarded`. A header
    that the proxies do not set, but pass on, is written by the client: then the one they do set must be named.
    """

    trusted: Sequence[Network] = ()
    header: AddressHeader | None = None

    def find(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the last address that is not a trusted proxy; the peer's if the peer is not one.

        Proxies append the address they see, so what stands to the left of the first untrusted one may be forged. If a
        proxy does not say from whom it has the request (`unknown`, or a name of its own), the client is unknown: None.
        `headers` have lower-case names.
        """
        peer_address = parse_address(peer or "")
        if peer_address is None:
            return None
        if not self._is_trusted(peer_address):
            return str(peer_address)
        found: Address | None = peer_address
        for said in self._get_hops(headers):
            found = parse_address(said)
            if found is None or not self._is_trusted(found):
                break
        return None if found is None else str(found)

    def _get_hops(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
        """The addresses that the header names, the nearest hop first."""
        lines = list(headers)
        if self.header is not None:
            name = self.header.lower().encode()
        else:
            name = _X_FORWARDED_FOR if any(given == _X_FORWARDED_FOR for given, _ in lines) else _FORWARDED
        # a header in several lines is one list (RFC 9110, 5.3)
        value = b",".join(value for given, value in lines if given == name).decode("latin-1")
        value = value[-_MAX_HEADER_CHARACTERS:]
        parts = _split_forwarded(value) if name == _FORWARDED else value.split(",")
        return (part.strip() for part in reversed(parts) if part.strip())

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self.trusted)


def parse_address(said: str) -> Address | None:
    """Return the address that a proxy or a socket wrote; None if it is not one.

    It may have a port (`203.0.113.7:4711`, `[2001:db8::7]:4711`), brackets, or a zone. An IPv4 address that is written
    as an IPv6 address (`::ffff:203.0.113.7`) is returned as what it is.
    """
    said = said.strip()
    parted = _WITH_PORT.fullmatch(said)
    try:
        address = ip_address(parted[1] or parted[2] if parted is not None else said)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _split_forwarded(value: str) -> list[str]:
    """The `for` of each element; `unknown` for an element without one, whose proxy does not say whom it heard."""
    hops: list[str] = []
    said, is_begun = "unknown", False
    for part in _FORWARDED_PART.finditer(value):
        name, quoted, plain, comma = part.groups()
        if comma:
            if is_begun:
                hops.append(said)
            said, is_begun = "unknown", False
        elif not part[0].isspace():
            is_begun = True
            if name is not None and name.lower() == "for":
                said = (re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain) or "unknown"
    return [*hops, said] if is_begun else hops
