"""Clients of httpx without certificate authorities, which no test on loopback needs.

A client of httpx reads all of them when it is made, which took 69 ms where a client without them took 0.7 ms.
"""

import ssl
from typing import Any

import httpx

from tests.support.polling import PATIENCE_S

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(**options: Any) -> httpx.AsyncClient:
    """An `httpx.AsyncClient` with its `options`; https ends with a certificate nobody vouches for.

    Without a `timeout` it waits longer than the five seconds of httpx, which a busy machine may need.
    """
    return httpx.AsyncClient(verify=_NO_AUTHORITIES, **{"timeout": PATIENCE_S, **options})


def http_request(method: str, url: str, **options: Any) -> httpx.Response:
    """`httpx.request`, of a client of its own."""
    return httpx.request(method, url, verify=_NO_AUTHORITIES, **options)
