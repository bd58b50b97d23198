"""PostgreSQL's settings for each service's role: time limits, and how its statements are planned.

They belong to the roles and not to the connections, so that a pooler can stand between: PgBouncer neither accepts these
as startup parameters nor keeps what a client sets for its session. An operator changes one for good by
`alter role … in database … set …`, which takes precedence over what is set here at each migration.
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql

# A client that has gone away without a word is noticed by TCP within a minute, and while a statement runs or waits,
# one that has closed its connection within a second.
_ALL: dict[str, str] = {
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "50s",
    "idle_in_transaction_session_timeout": "20s",
}

# The commits of a gateway hold the keys of events, which senders repeat through other gateways. Each way of leaving one
# unfinished ends within 3 seconds, well before the deadline of a commit (5 s): frozen between two statements
# (idle_in_transaction_session_timeout), waiting for a lock (lock_timeout), gone without a word (TCP), working for
# somebody who has closed the connection (client_connection_check_interval). The last two limits are for anything else.
_GATEWAY: dict[str, str] = {
    "client_connection_check_interval": "500ms",
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "3s",
    "idle_in_transaction_session_timeout": "2s",
    "lock_timeout": "250ms",
    "statement_timeout": "10s",
    "transaction_timeout": "60s",
}

# Without sorting, a page is read in the order of an index and ends with its last row, even where the planner believes
# that few rows match; what must be sorted is, at a price that would switch compiling on. To start processes that work
# side by side takes ten times as long as to count a day; for a year it pays.
_QUERY: dict[str, str] = {
    "statement_timeout": "15s",
    "plan_cache_mode": "force_custom_plan",
    "enable_sort": "off",
    "jit": "off",
    "parallel_setup_cost": "5000",
}

# The command line has statements of up to 15 minutes, and waits as long for one database inside a transaction of the
# other (services/cli/rebuild). A service itself gives up after TRACKING_QUERY_TIMEOUT_S, 10 s; these limits are longer.
ROLE_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "admin": _ALL | {"statement_timeout": "15s"},
    "gateway": _ALL | _GATEWAY,
    "operate": _ALL | {"statement_timeout": "905s", "idle_in_transaction_session_timeout": "905s"},
    "projector": _ALL | {"statement_timeout": "60s", "idle_in_transaction_session_timeout": "60s"},
    "query": _ALL | _QUERY,
    "relay": _ALL | {"statement_timeout": "30s"},
    "statistics": _ALL | {"statement_timeout": "60s", "idle_in_transaction_session_timeout": "60s"},
}


def set_role_settings(connection: psycopg.Connection) -> None:
    """Give each role its settings. One that this server does not know is left out: transaction_timeout came with 17."""
    known = {name for (name,) in connection.execute("select name from pg_settings").fetchall()}
    for service, settings in ROLE_SETTINGS.items():
        role = sql.Identifier(f"tracking_{service}")
        for name, value in settings.items():
            if name in known:
                statement = sql.SQL("alter role {} set {} = {}")
                connection.execute(statement.format(role, sql.Identifier(name), sql.Literal(value)))
