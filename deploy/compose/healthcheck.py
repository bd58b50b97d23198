"""Exits with 0 while the service in this container is ready. It imports as little as possible of the standard library.

It runs every few seconds in each container, so it imports nothing that takes long.
"""

import os
import socket
import sys

TIMEOUT_S = 4
REQUEST = b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n"


def main() -> int:
    """1 and one line when the answer is another than 200, or there is none."""
    try:
        with socket.create_connection(("127.0.0.1", int(os.environ["TRACKING_PORT"])), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(REQUEST)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except (OSError, KeyError, ValueError) as error:
        print(f"not ready: {error!r}")
        return 1
    is_ready = answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
    print(answer.rpartition(b"\r\n\r\n")[2].decode(errors="replace"))
    return 0 if is_ready else 1


if __name__ == "__main__":
    sys.exit(main())
