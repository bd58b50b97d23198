"""`python -m tests.sdks.capture`: records the requests of each SDK in tests/sdks/captured, for tests to replay.

The key is a made-up one, the page that of `browser.SITE`. The first answer is lost, so that a repeat is among it.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sdks import sdks
from tests.sdks.calls import SHORTEST
from tests.sdks.messages import Message
from tests.sdks.recorder import run_recorder
from tests.sdks.sdks import SDKS, Sdk, calls_of, send

CAPTURED = Path(__file__).parent / "captured"
KEY = f"sk_{'Captured' * 4}"
HEADERS = (
    "anonymousid",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "content-encoding",
    "content-type",
    "origin",
    "user-agent",
    "x-retry-count",
)


async def capture(sdk: Sdk) -> Mapping[str, Any]:
    """Record the requests of an SDK for the shortest list of calls; `messageIds` has one id for each call."""
    async with run_recorder() as recorder:
        sent = await send(sdk, f"http://127.0.0.1:{recorder.port}", KEY, calls_of(sdk, SHORTEST))
        requests = [_plain(message) for message in recorder.requests]
    return {"sdk": sdk.name, "version": sent.version, "messageIds": sent.message_ids, "requests": requests}


def _plain(request: Message) -> dict[str, Any]:
    method, target, _ = request.start.split(" ")
    known = {name: value for name in HEADERS if (value := request.header(name)) is not None}
    try:
        body = {"body": request.body.decode()} if request.body else {}
    except UnicodeDecodeError:
        body = {"bodyBase64": base64.b64encode(request.body).decode()}
    return {"method": method, "target": target, "headers": known, **body}


async def main() -> None:
    """All of them, one after the other."""
    sdks.prepare(print)
    CAPTURED.mkdir(exist_ok=True)
    for sdk in SDKS:
        captured = await capture(sdk)
        (CAPTURED / sdk.file_name).write_text(json.dumps(captured, indent=1, ensure_ascii=False) + "\n")
        print(f"{sdk.name}: {len(captured['requests'])} requests")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
