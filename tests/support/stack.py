"""The parts of the servers that one test owns: databases from migrated templates, a virtual host, a Redis database."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from functools import cached_property
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import httpx
import psycopg
import redis
from psycopg import sql

from deploy.local.server import random_secret
from tests.support.backing_services import BackingServices
from tests.support.http_client import http_request
from tests.support.polling import PATIENCE_S
from tracking.infra import postgres
from tracking.migrations import ROLES, migrate

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # generic only in its stubs

Database = Literal["write", "read"]

# CREATE DATABASE … TEMPLATE copies what is in a database, but not who may connect to it.
GRANTS = """
select format('grant %%s on database %%I to %%I', granted.privilege_type, %s::text, pg_roles.rolname)
  from pg_database,
       aclexplode(datacl) as granted
  join pg_roles on pg_roles.oid = granted.grantee
 where datname = %s
"""


class Templates:
    """Both databases migrated once a session; a fresh copy takes milliseconds."""

    def __init__(self, backing: BackingServices) -> None:
        self._backing = backing
        self._run = random_secret(6).lower()
        self._made = 0
        self.passwords: Mapping[str, str] = {role: random_secret() for role in ROLES}

    @cached_property
    def _names(self) -> dict[Database, str]:
        names: dict[Database, str] = {
            "write": f"template_write_{self._run}",
            "read": f"template_read_{self._run}",
        }
        migrate(self.url(names["write"]), self.url(names["read"]), self.passwords)
        return names

    def url(self, database: str, role: str | None = None) -> str:
        """The superuser's, or that of the role `tracking_<role>`."""
        parts = urlsplit(self._backing.postgres_url)
        address = parts.netloc.rpartition("@")[2]
        user = f"tracking_{role}:{self.passwords[role]}@" if role else parts.netloc.removesuffix(address)
        return urlunsplit(parts._replace(netloc=user + address, path=f"/{database}"))

    def copy(self, which: Database) -> str:
        """Make a fresh database and return its name."""
        template = self._names[which]
        self._made += 1
        name = f"test_{which}_{self._run}_{self._made}"
        with psycopg.connect(self._backing.postgres_url, autocommit=True) as connection:
            identifiers = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
            connection.execute(sql.SQL("create database {name} template {template}").format(**identifiers))
            connection.execute(sql.SQL("revoke all on database {name} from public").format(**identifiers))
            for (grant,) in connection.execute(GRANTS, (name, template)).fetchall():
                connection.execute(grant)
        return name

    def drop(self, name: str) -> None:
        """Also when someone is still connected."""
        with psycopg.connect(self._backing.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def close(self) -> None:
        """Drop the templates; the copies went with their tests."""
        if "_names" in self.__dict__:
            for name in self._names.values():
                self.drop(name)


class Stack:
    """Addresses for one test; each thing is made when first asked for and dropped after the test."""

    def __init__(self, backing: BackingServices, templates: Templates, redis_numbers: Iterator[int]) -> None:
        self._backing = backing
        self._templates = templates
        self._redis_numbers = redis_numbers
        self._connections = AsyncExitStack()
        self._kept: dict[str, Connection] = {}
        self._polling = asyncio.Lock()

    def write_url(self, role: str | None = None) -> str:
        """The superuser's, or that of a service's role: `write_url("gateway")`."""
        return self._templates.url(self._write_database, role)

    def read_url(self, role: str | None = None) -> str:
        """The superuser's, or that of a service's role: `read_url("query")`."""
        return self._templates.url(self._read_database, role)

    async def write(self) -> "Connection":
        """The owner's connection to the write database, closed after the test."""
        return await self._connect(self.write_url())

    async def read(self) -> "Connection":
        """The owner's connection to the read database, closed after the test."""
        return await self._connect(self.read_url())

    async def write_value(self, query: str, *arguments: object) -> Any:
        """The first value of a query of the write database; polls share one connection."""
        return await self._fetch_value(self.write_url(), query, *arguments)

    async def read_value(self, query: str, *arguments: object) -> Any:
        """The first value of a query of the read database; polls share one connection."""
        return await self._fetch_value(self.read_url(), query, *arguments)

    @cached_property
    def redis_url(self) -> str:
        """An empty database; publish/subscribe is shared by all of a server's databases."""
        url = f"{self._backing.redis_url}/{next(self._redis_numbers)}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url

    @property
    def rabbitmq_url(self) -> str:
        """An empty virtual host."""
        parts = urlsplit(self._backing.rabbitmq_url)
        return urlunsplit(parts._replace(path=f"/{self.virtual_host}"))

    @cached_property
    def virtual_host(self) -> str:
        """Its name, for the management API."""
        name = f"test-{random_secret(10)}"
        user = urlsplit(self._backing.rabbitmq_url).username or "guest"
        self.manage("PUT", f"/api/vhosts/{name}")
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self.manage("PUT", f"/api/permissions/{name}/{quote(user, safe='')}", rights)
        return name

    def manage(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask RabbitMQ's management API; raises httpx.HTTPError if it returns an error or does not run."""
        url = self._backing.rabbitmq_management_url
        if url is None:
            raise RuntimeError("these tests need RabbitMQ's management plugin, to give each test a virtual host")
        response = http_request(method, url + path, json=body, timeout=PATIENCE_S)
        response.raise_for_status()
        return response

    async def close(self) -> None:
        """Close the connections, drop the databases and the virtual host."""
        await self._connections.aclose()
        for made in ("_write_database", "_read_database"):
            if made in self.__dict__:
                self._templates.drop(self.__dict__[made])
        if "virtual_host" in self.__dict__:
            self.manage("DELETE", f"/api/vhosts/{self.virtual_host}")

    @cached_property
    def _write_database(self) -> str:
        return self._templates.copy("write")

    @cached_property
    def _read_database(self) -> str:
        return self._templates.copy("read")

    async def _fetch_value(self, url: str, query: str, *arguments: object) -> Any:
        async with self._polling:
            kept = self._kept.get(url)
            if kept is None or kept.is_closed():
                kept = self._kept[url] = await self._connect(url)
            return await kept.fetchval(query, *arguments)

    async def _connect(self, url: str) -> "Connection":
        connection = await asyncpg.connect(url, timeout=PATIENCE_S)
        await postgres.register_time_codecs(connection)
        self._connections.push_async_callback(connection.close, timeout=PATIENCE_S)
        return connection


def redis_numbers(backing: BackingServices) -> Iterator[int]:
    """The server's database numbers in turn, without 0, which a person may be using; asked when first needed."""
    with redis.Redis.from_url(backing.redis_url) as client:
        count = int(client.config_get("databases")["databases"])
    yield from cycle(range(1, count))
