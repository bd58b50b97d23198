"""Finds the address of the client that sent a request through trusted proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def client_address(peer: str | None, forwarded_for: str | None, trusted: Sequence[Network]) -> str | None:
    """Return the last address of `X-Forwarded-For` that is not a trusted proxy; the peer's if the peer is not one.

    Proxies append the address they see, so an address to the left of the first untrusted one may be forged.
    """
    address = peer
    for said in [part.strip() for part in reversed((forwarded_for or "").split(","))]:
        if not _is_trusted(address, trusted) or not said:
            break
        address = said
    return address


def _is_trusted(address: str | None, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ip_address((address or "").strip("[]"))
    except ValueError:
        return False
    return any(parsed in network for network in trusted)
