"""Settings of the analytics API, read from the environment."""

from typing import Annotated

from pydantic import Field, SecretStr

from tracking.infra.settings import Port, ProcessSettings, Seconds


class QuerySettings(ProcessSettings):
    """Settings of the analytics API."""

    port: Port = 8003
    read_database_url: SecretStr
    redis_url: SecretStr
    redis_timeout_s: Seconds = 0.25
    token_cache_ttl_s: Seconds = 1
    statistics_ttl_s: Annotated[int, Field(ge=1)] = 300
