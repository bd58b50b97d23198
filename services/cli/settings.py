"""Settings of the command line, read from the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracking.infra.settings import Seconds


class CliSettings(BaseSettings):
    """Settings of `python -m services.cli`, which ends after its command and so has no port and no logs."""

    model_config = SettingsConfigDict(env_prefix="TRACKING_", extra="ignore")

    write_database_url: SecretStr
    read_database_url: SecretStr
    connect_timeout_s: Seconds = 5
