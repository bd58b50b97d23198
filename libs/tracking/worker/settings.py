"""Settings of the two consumers, projector and statistics, read from the environment."""

from typing import Annotated

from pydantic import Field, SecretStr

from tracking.infra.settings import Port, ProcessSettings


class WorkerSettings(ProcessSettings):
    """Settings of a consumer; the default port is the projector's."""

    port: Port = 9102
    read_database_url: SecretStr
    rabbitmq_url: SecretStr
    group_events: Annotated[int, Field(ge=1)] = 4_000
    group_bytes: Annotated[int, Field(ge=1)] = 8 * 1024 * 1024
    prefetch_messages: Annotated[int, Field(ge=1, le=1000)] = 64
    dead_letter_limit: Annotated[int, Field(ge=1)] = 100
    # before the second attempt to apply a batch; it doubles each time, so the tenth and last comes after 26 s
    retry_pause_s: Annotated[float, Field(gt=0, le=60)] = 0.05
