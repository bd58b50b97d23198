"""PostgreSQL by asyncpg: pools with time limits, jsonb as the bytes it is, and which failures are worth a retry."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import asyncpg

from tracking.domain.errors import Unavailable
from tracking.infra.postgres_times import TIME_CODECS

if TYPE_CHECKING:
    # generic in its stubs only
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    DedicatedConnection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = DedicatedConnection = asyncpg.Connection
    Pool = asyncpg.Pool

# The server is away, stopping, full, or asks for the transaction again; nothing is wrong with the statement.
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when the server ended an idle connection
    ConnectionError,
    TimeoutError,
    OSError,
)
# All errors of PostgreSQL, for statements that no input can make wrong: a right or a table may be missing.
POSTGRES_ERRORS: tuple[type[BaseException], ...] = (*TRANSIENT_ERRORS, asyncpg.PostgresError)

# What PostgreSQL (or asyncpg on its behalf) may say against the data of one row, for ever.
ROW_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.WithCheckOptionViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.CardinalityViolationError,
    # what a trigger raises
    asyncpg.TriggeredActionError,
    asyncpg.TriggeredDataChangeViolationError,
    asyncpg.PLPGSQLError,
    asyncpg.SQLRoutineError,
    asyncpg.ExternalRoutineError,
    asyncpg.ExternalRoutineInvocationError,
    ValueError,
    OverflowError,
    TypeError,
)

# For transactions that look up many rows by their keys: without statistics of a new month, the planner takes the keys
# for so many rows that it would read a whole partition. The second also has each statement planned with its values:
# asyncpg prepares statements, and after five runs PostgreSQL may change to one plan for all values.
USE_INDEX_LOOKUPS = "set local enable_hashjoin = off; set local enable_mergejoin = off; set local enable_seqscan = off"
USE_INDEX_LOOKUPS_CUSTOM_PLANS = USE_INDEX_LOOKUPS + "; set local plan_cache_mode = force_custom_plan"

# Advisory locks, each for work that only one process may do at a time. During a rolling upgrade older processes are
# locked out by the same number only, so a number is neither changed nor used again for something else.
RELAY_LOCK = 7_236_401
REBUILD_LOCK = 7_236_402
# Older versions of admin take 7_236_402 for the bootstrap, so in a rolling upgrade an old and a new one may bootstrap
# side by side. It matters only when neither finds the token of its environment, and then costs little. With the same
# secret, the second insert violates the unique hash: that process ends, and finds the token when it is started again.
# With two secrets, both tokens are good until the next start of an admin, which revokes the one it is not told of.
BOOTSTRAP_LOCK = 7_236_403
PARTITIONS_LOCK = 7_236_404
# Taken by the triggers of migration write/0012, not by this code; here so that the number is not used twice.
CREDENTIAL_CHANGES_LOCK = 7_236_405


def encode_jsonb(text: bytes) -> bytes:
    """The binary form of jsonb is a version byte (1) and the JSON text (PostgreSQL source, jsonb_recv)."""
    return b"\x01" + text


def _decode_jsonb(data: bytes) -> bytes:
    return bytes(data[1:])


async def prepare_connection(connection: Connection) -> None:
    """Let jsonb go in and out as UTF-8 JSON text in bytes, in binary COPY too, and every time as it is."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    await register_time_codecs(connection)


async def register_time_codecs(connection: Connection) -> None:
    """Let `timestamptz` and `date`, and arrays of them, go in and out without asyncpg's sentinels for infinity."""
    for name, (encode, decode) in TIME_CODECS.items():
        await connection.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format="tuple")


async def open_pool(
    url: str,
    *,
    service: str,
    connect_timeout_s: float,
    query_timeout_s: float,
    size: int = 10,
    prepare: Callable[[Connection], Coroutine[Any, Any, None]] = prepare_connection,
) -> Pool:
    """Open a pool that connects when needed, so that a process can start, and report it, without its database.

    Every statement has `query_timeout_s` on the client. Longer limits on the server, and how it plans, are settings of
    the role (tracking/migrations/role_settings.py), because a pooler would not let a connection bring its own.
    """
    pool = asyncpg.create_pool(
        url,
        record_class=asyncpg.Record,
        min_size=0,
        max_size=size,
        timeout=connect_timeout_s,
        command_timeout=query_timeout_s,
        init=prepare,
        # PgBouncer knows these two, and keeps them for each client
        server_settings={"application_name": f"tracking-{service}", "timezone": "UTC"},
    )
    await pool
    return pool


async def close_pool(pool: Pool, timeout_s: float = 5) -> None:
    """Close a pool when its connections are returned; terminate them after `timeout_s`. asyncpg would wait for ever."""
    try:
        await asyncio.wait_for(pool.close(), timeout_s)
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        pool.terminate()


async def ping(pool: Pool, timeout_s: float = 2) -> None:
    """Raise Unavailable unless the database answers in time."""
    try:
        async with asyncio.timeout(timeout_s), pool.acquire() as connection:
            await connection.execute("select 1")
    except POSTGRES_ERRORS as error:
        raise Unavailable("postgres_unavailable", f"PostgreSQL does not answer: {describe_error(error)}") from error


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL failed for a reason that no row can have: away, full, too slow, a right or table missing."""
    return isinstance(error, POSTGRES_ERRORS) and not isinstance(error, ROW_ERRORS)


def describe_error(error: BaseException) -> str:
    """Return the text of an exception, or the name of its class if it has none (as TimeoutError)."""
    return str(error) or type(error).__name__


def parse_row_count(status: Any) -> int:
    """Return the count at the end of a command tag such as `UPDATE 3`."""
    return int(str(status).rsplit(" ", 1)[-1])
