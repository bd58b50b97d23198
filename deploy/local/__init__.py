"""The whole system on one machine, for development: private servers and the six services under supervisor.

Everything lives in `.local/` of the checkout, on ports of its own; the machine's own servers stay untouched.
"""


class LocalStackError(Exception):
    """Something the person at the keyboard must change; the message says what."""
