"""Settings of the relay, read from the environment."""

from typing import Annotated

from pydantic import Field, SecretStr

from tracking.infra.settings import Port, ProcessSettings, Seconds


class RelaySettings(ProcessSettings):
    """Settings of the relay, the only service that opens both databases."""

    port: Port = 9104
    write_database_url: SecretStr
    read_database_url: SecretStr
    rabbitmq_url: SecretStr
    publish_timeout_s: Seconds = 10
    tick_s: Seconds = 1
    unpublished_after_s: Seconds = 5
    unapplied_after_s: Seconds = 15
    upkeep_interval_s: Seconds = 10
    retention_months: Annotated[int, Field(ge=1)] | None = None
