"""Failures of the read database as errors of the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from tracking.domain.errors import Unavailable
from tracking.infra import postgres

Row = Any


class TooSlow(Unavailable):
    """A statement or a question takes longer than it may; where the caller may not ask for less, it is unavailable."""

    def __init__(self) -> None:
        super().__init__("database_unavailable", "The read database takes too long; try again.", 2)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Around each statement: a database that is away becomes Unavailable, which callers of the API are told.

    A statement that the server ends because of its time becomes TooSlow.
    """
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise TooSlow from error
    except postgres.TRANSIENT_ERRORS as error:
        message = f"The read database does not answer: {postgres.describe_error(error)}"
        raise Unavailable("database_unavailable", message, 2) from error
