"""Settings of the gateway, read from the environment."""

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from services.gateway.events.segment import BATCH_PATHS, EVENT_TYPE_BY_PATH, MERGE
from services.gateway.http.client_address import AddressHeader
from tracking.contracts.commit_deadline import MAX_COMMIT_DEADLINE_S
from tracking.infra.settings import Port, ProcessSettings, Seconds


def _networks(text: str) -> str:
    for part in text.split(","):
        ip_network(part.strip())
    return text


Networks = Annotated[str, AfterValidator(_networks), Field(description="separated by commas")]
PathPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
_RESERVED_PATHS = ("/api", "/beacon", "/docs", "/health", "/metrics", "/openapi", "/pixel", "/scalar", "/sourceConfig")
_SDK_ROUTE_NAMES = frozenset({*EVENT_TYPE_BY_PATH, *BATCH_PATHS, MERGE, "projects"})


def _prefix(text: str) -> str:
    if f"/{text.split('/')[1]}" in _RESERVED_PATHS:
        raise ValueError(f"{', '.join(_RESERVED_PATHS)} are taken")
    return text


Prefix = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$"), AfterValidator(_prefix)]


class GatewaySettings(ProcessSettings):
    """Settings of the gateway, with the limits on requests."""

    port: Port = 8001
    write_database_url: SecretStr
    redis_url: SecretStr
    rabbitmq_url: SecretStr
    commit_deadline_s: Annotated[float, Field(gt=0, le=MAX_COMMIT_DEADLINE_S)] = 5
    publish_timeout_s: Seconds = 5
    redis_timeout_s: Seconds = 0.25
    cache_ttl_s: Seconds = 5
    buffer_events: Annotated[int, Field(ge=1)] = 20_000
    buffer_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    body_bytes: Annotated[int, Field(ge=1)] = 5 * 1024 * 1024
    bodies_bytes: Annotated[int, Field(ge=1)] = 128 * 1024 * 1024
    inflated_bytes: Annotated[int, Field(ge=1)] = 20 * 1024 * 1024
    inflation_ratio: Annotated[int, Field(ge=1)] = 100
    # A message has at least one whole event, with twice its bytes at most, and RabbitMQ 4 takes 16 MiB.
    event_bytes: Annotated[int, Field(ge=1, le=4 * 1024 * 1024)] = 64 * 1024
    batch_events: Annotated[int, Field(ge=1)] = 2_500
    trusted_proxies: Networks = "127.0.0.0/8, ::1/128, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7"
    # The header in which the proxies name the client; without it X-Forwarded-For, else Forwarded.
    client_address_header: AddressHeader | None = None
    # Operators may rename these routes, because block lists contain the usual names.
    sdk_prefix: Prefix = "/v1"
    beacon_name: PathPart = "beacon"
    pixel_name: PathPart = "pixel"
    script_name: PathPart = "tracker.js"

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = {self.beacon_name, self.pixel_name, self.script_name}
        if len(names) < 3 or names & _SDK_ROUTE_NAMES:
            raise ValueError("the names of beacon, pixel and script must differ from each other and from SDKs' routes")
        return self
