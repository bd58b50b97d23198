"""Sends a few thousand varied events to the public ports and proves that each is counted and listed exactly once.

The way of a run: `target` (addresses, a system of its own) → `events` (what to send, what should become of it) →
`send` (the Python client) → `verify` (statistics and both ways of paging against what was sent).
"""


class DemoError(Exception):
    """The run cannot go on; its text says what to do or what is wrong."""
