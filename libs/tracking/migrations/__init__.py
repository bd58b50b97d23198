"""Brings both databases to the newest schema: databases, roles, numbered .sql files (yoyo), partitions; safe to repeat.

`migrate` needs the rights of the databases' owner (an operator, the local stack, the tests); no service has them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from yoyo import get_backend, read_migrations

from tracking.migrations.role_settings import set_role_settings
from tracking.tables.partitions import MONTHS_AHEAD, MONTHS_BACK, PARTITIONED_TABLES, list_months_around

ROLES = ("admin", "gateway", "operate", "projector", "query", "relay", "statistics")
ROLES_OF = {
    "write": ("admin", "gateway", "operate", "query", "relay"),
    "read": ("operate", "projector", "query", "relay", "statistics"),
}
_FOLDER = Path(__file__).parent


def migrate(
    write_url: str,
    read_url: str,
    passwords: Mapping[str, str],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Create what is missing and apply what is new, write database first.

    `write_url` and `read_url` are those of a role that may create databases and roles; `passwords` maps a service's
    name to the password of its role `tracking_<name>` (a service left out gets no login, or keeps the one it has).
    Raises psycopg.Error as the server reports it; everything applied before that stays, and a repeat goes on there.
    """
    for name, url in (("write", write_url), ("read", read_url)):
        _create_database(url, say)
        with psycopg.connect(url, autocommit=True) as connection:
            _create_roles(connection, passwords)
            set_role_settings(connection)
            _admit_roles(connection, name)
        _apply(name, url, say)
        with psycopg.connect(url, autocommit=True) as connection:
            created, waiting = create_partitions(connection, name, datetime.now(UTC).date())
            say(f"{name}: {created} monthly partitions created")
            if waiting:
                say(f"{name}: {waiting} monthly partitions wait for a lock, as during a dump; the relay creates them")


def create_partitions(connection: psycopg.Connection, database: str, today: date) -> tuple[int, int]:
    """Create the partitions from 13 months back to 3 ahead of `today`.

    Return how many were created, and how many were missing and could not be locked, for example during a dump.
    """
    create = sql.SQL("select {}.create_partition(%s, %s)").format(sql.Identifier(database))
    created = waiting = 0
    for parent in PARTITIONED_TABLES[database]:
        for month in list_months_around(today, MONTHS_BACK, MONTHS_AHEAD):
            try:
                row = connection.execute(create, (parent, month)).fetchone()
                created += bool(row and row[0])
            except psycopg.errors.LockNotAvailable:
                waiting += 1
    return created, waiting


def _create_database(url: str, say: Callable[[str], None]) -> None:
    name = urlsplit(url).path.lstrip("/")
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
            return
        connection.execute(
            sql.SQL("create database {} encoding 'UTF8' template template0").format(sql.Identifier(name))
        )
        say(f"database {name} created")


def _create_roles(connection: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    for service in ROLES:
        role = sql.Identifier(f"tracking_{service}")
        known = connection.execute("select 1 from pg_roles where rolname = %s", (f"tracking_{service}",)).fetchone()
        if not known:
            connection.execute(sql.SQL("create role {} nologin").format(role))
        if service in passwords:
            connection.execute(sql.SQL("alter role {} login password {}").format(role, sql.Literal(passwords[service])))


def _admit_roles(connection: psycopg.Connection, name: str) -> None:
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("revoke all on database {} from public").format(database))
    for service in ROLES_OF[name]:
        role = sql.Identifier(f"tracking_{service}")
        connection.execute(sql.SQL("grant connect on database {} to {}").format(database, role))
    if name == "write":
        # older gateways, which still run in a rolling upgrade, use a temporary table for duplicates
        connection.execute(sql.SQL("grant temporary on database {} to tracking_gateway").format(database))


def _apply(name: str, url: str, say: Callable[[str], None]) -> None:
    backend = get_backend(url.replace("postgresql://", "postgresql+psycopg://", 1))  # type: ignore[no-untyped-call]
    try:
        migrations = read_migrations(str(_FOLDER / name))  # type: ignore[no-untyped-call]
        with backend.lock():
            pending = backend.to_apply(migrations)
            for migration in pending:
                say(f"{name}: applying {migration.id}")
            backend.apply_migrations(pending)
        say(f"{name}: schema is at {migrations[-1].id}")
    finally:
        backend.connection.close()
