"""`python -m tests.sdks.python_client segment`: sends with a Python SDK. The calls are JSON on stdin.

Prints `{"version": …, "messageIds": […]}`, an id for each call. Exit 1 if the SDK gave up on anything.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable
from typing import Any

PACKAGES = {"segment": "segment-analytics-python", "rudderstack": "rudder-sdk-python"}
_ARGUMENTS = {
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "previousId": "previous_id",
    "groupId": "group_id",
}


def main() -> int:
    """The whole of it: as a user's program would, but for counting."""
    sdk = sys.argv[1]
    task = json.load(sys.stdin)
    failures: list[str] = []

    def on_error(error: Exception, batch: list[Any]) -> None:
        failures.append(f"{len(batch)} messages: {error!r}")

    client = _client_class(sdk)(task["key"], host=task["url"], on_error=on_error)
    ids = []
    for call in task["calls"]:
        arguments = {
            _ARGUMENTS.get(name, name): value for name, value in call.items() if name not in ("kind", "number")
        }
        is_queued, message = getattr(client, call["kind"])(**arguments)
        assert is_queued, call
        ids.append(message["messageId"])
    client.shutdown()
    print(json.dumps({"version": importlib.metadata.version(PACKAGES[sdk]), "messageIds": ids}))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _client_class(sdk: str) -> Callable[..., Any]:
    if sdk == "segment":
        from segment.analytics.client import Client as SegmentClient

        return SegmentClient  # type: ignore[no-any-return]
    from rudderstack.analytics.client import Client as RudderStackClient

    return RudderStackClient  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
