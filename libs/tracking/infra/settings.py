"""The settings that every process has; each service adds its own in its `settings.py`.

Settings are read from environment variables. Every name starts with TRACKING_, and times carry their unit. Only a
`settings` module imports this one, and only a `__main__` imports a `settings` module (contracts in pyproject.toml):
everything else takes plain arguments.
"""

from typing import Annotated, Literal

from pydantic import Field
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
