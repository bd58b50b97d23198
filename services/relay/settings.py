"""Settings of the relay, read from the environment."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

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
    counts_retention_months: Annotated[int, Field(ge=1)] | None = None
    # longer than a gateway may not know of it
    retention_delay_s: Annotated[float, Field(ge=10)] = 10

    @model_validator(mode="after")
    def _counts_are_kept_as_long_as_events(self) -> Self:
        events, counts = self.retention_months, self.counts_retention_months
        if counts is not None and (events is None or counts < events):
            raise ValueError("counts_retention_months must be at least retention_months, which must be set then")
        return self
