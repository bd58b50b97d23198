"""What a process is told by its environment; every name starts with TRACKING_, times carry their unit.

Only a `__main__` imports this module (a contract in pyproject.toml): everything else takes plain arguments.
"""

from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class ProcessSettings(BaseSettings):
    """Shared by every process: where it listens, how it logs and traces, how long it may take to stop."""

    model_config = SettingsConfigDict(env_prefix="TRACKING_", extra="ignore")

    host: str = "127.0.0.1"
    port: Port = 0
    environment: Literal["local", "production"] = "production"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: str | None = None
    otlp_endpoint: str | None = None
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    shutdown_grace_s: Seconds = 20
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.5
    connect_timeout_s: Seconds = 5
    query_timeout_s: Seconds = 10
    # of a client, in total and not from byte to byte; the edge has the same (deploy/compose/Caddyfile)
    header_timeout_s: Seconds = 10
    body_timeout_s: Seconds = 30
    idle_timeout_s: Seconds = 75
    write_timeout_s: Seconds = 60
    header_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024
    connections: Annotated[int, Field(ge=1)] = 10_000


def _networks(text: str) -> str:
    for part in text.split(","):
        ip_network(part.strip())
    return text


Networks = Annotated[str, AfterValidator(_networks), Field(description="separated by commas")]
PathPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
_RESERVED_PATHS = ("/api", "/docs", "/health", "/metrics", "/openapi", "/scalar")
_OF_SDKS = frozenset(
    ["track", "t", "identify", "i", "page", "p", "screen", "s", "group", "g", "alias", "a", "batch", "b", "import"]
)


def _prefix(text: str) -> str:
    if f"/{text.split('/')[1]}" in _RESERVED_PATHS:
        raise ValueError(f"{', '.join(_RESERVED_PATHS)} are taken")
    return text


Prefix = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$"), AfterValidator(_prefix)]


class GatewaySettings(ProcessSettings):
    """The gateway's; the limits are those of the README's table."""

    port: Port = 8001
    write_database_url: SecretStr
    redis_url: SecretStr
    rabbitmq_url: SecretStr
    commit_deadline_s: Seconds = 5
    publish_timeout_s: Seconds = 5
    redis_timeout_s: Seconds = 0.25
    cache_ttl_s: Seconds = 5
    buffer_events: Annotated[int, Field(ge=1)] = 20_000
    buffer_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    body_bytes: Annotated[int, Field(ge=1)] = 5 * 1024 * 1024
    bodies_bytes: Annotated[int, Field(ge=1)] = 128 * 1024 * 1024
    inflated_bytes: Annotated[int, Field(ge=1)] = 20 * 1024 * 1024
    inflation_ratio: Annotated[int, Field(ge=1)] = 100
    event_bytes: Annotated[int, Field(ge=1)] = 64 * 1024
    batch_events: Annotated[int, Field(ge=1)] = 2_500
    trusted_proxies: Networks = "127.0.0.0/8, ::1/128, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7"
    # names of one's own for what block lists know
    sdk_prefix: Prefix = "/v1"
    beacon_name: PathPart = "beacon"
    pixel_name: PathPart = "pixel"
    script_name: PathPart = "tracker.js"

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = {self.beacon_name, self.pixel_name, self.script_name}
        if len(names) < 3 or names & _OF_SDKS:
            raise ValueError("the names of beacon, pixel and script must differ from each other and from SDKs' routes")
        return self


class RelaySettings(ProcessSettings):
    """The relay's; it is the only service that opens both databases."""

    port: Port = 9104
    write_database_url: SecretStr
    read_database_url: SecretStr
    rabbitmq_url: SecretStr
    publish_timeout_s: Seconds = 10
    tick_s: Seconds = 1
    unpublished_after_s: Seconds = 5
    unapplied_after_s: Seconds = 15
    retention_months: Annotated[int, Field(ge=1)] | None = None


class WorkerSettings(ProcessSettings):
    """The projector's and the statistics worker's."""

    port: Port = 9102
    read_database_url: SecretStr
    rabbitmq_url: SecretStr
    group_events: Annotated[int, Field(ge=1)] = 4_000
    prefetch_messages: Annotated[int, Field(ge=1, le=1000)] = 64
    dead_letter_limit: Annotated[int, Field(ge=1)] = 100


class StatisticsSettings(WorkerSettings):
    """As the projector's, on a port of its own."""

    port: Port = 9103


class AdminSettings(ProcessSettings):
    """The administration's; `admin_token` is the first admin token, at least 20 characters."""

    port: Port = 8002
    write_database_url: SecretStr
    redis_url: SecretStr
    admin_token: Annotated[SecretStr, Field(min_length=20)]
    redis_timeout_s: Seconds = 1
    cache_ttl_s: Annotated[int, Field(ge=1)] = 3600


class QuerySettings(ProcessSettings):
    """The analytics'."""

    port: Port = 8003
    read_database_url: SecretStr
    redis_url: SecretStr
    redis_timeout_s: Seconds = 0.25
    token_cache_ttl_s: Seconds = 1
    statistics_ttl_s: Annotated[int, Field(ge=1)] = 300


class CliSettings(BaseSettings):
    """For `python -m services.cli`, which is no process that stays."""

    model_config = SettingsConfigDict(env_prefix="TRACKING_", extra="ignore")

    write_database_url: SecretStr
    read_database_url: SecretStr
    connect_timeout_s: Seconds = 5


class MigrationSettings(BaseSettings):
    """For `python -m tracking.migrations`; the owner URLs belong to a role that may create databases and roles."""

    model_config = SettingsConfigDict(env_prefix="TRACKING_", extra="ignore")

    write_owner_url: SecretStr
    read_owner_url: SecretStr
    db_password_admin: SecretStr | None = None
    db_password_gateway: SecretStr | None = None
    db_password_operate: SecretStr | None = None
    db_password_projector: SecretStr | None = None
    db_password_query: SecretStr | None = None
    db_password_relay: SecretStr | None = None
    db_password_statistics: SecretStr | None = None

    def passwords(self) -> dict[str, str]:
        """`{service: password}` of those that were given."""
        prefix = "db_password_"
        return {
            name.removeprefix(prefix): value.get_secret_value()
            for name, value in self
            if name.startswith(prefix) and isinstance(value, SecretStr)
        }
