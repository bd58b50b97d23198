"""Settings of the administration, read from the environment."""

from typing import Annotated

from pydantic import Field, SecretStr

from tracking.infra.settings import Port, ProcessSettings, Seconds


class AdminSettings(ProcessSettings):
    """Settings of the administration; `admin_token` is the first admin token, at least 20 characters."""

    port: Port = 8002
    write_database_url: SecretStr
    redis_url: SecretStr
    admin_token: Annotated[SecretStr, Field(min_length=20)]
    redis_timeout_s: Seconds = 1
    cache_ttl_s: Annotated[int, Field(ge=1)] = 3600
