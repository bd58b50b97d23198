"""Settings of the analytics API, read from the environment."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from tracking.domain.errors import Malformed
from tracking.domain.system_settings import SystemSettings
from tracking.infra.settings import Port, ProcessSettings, Seconds


def _split_origins(text: Any) -> Any:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return SystemSettings(allowed_origins=origins).allowed_origins
    except Malformed as error:
        raise ValueError(error.message) from error


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_origins), AfterValidator(_check_origins)]
Number = Annotated[int, Field(ge=1)]


class QuerySettings(ProcessSettings):
    """Settings of the analytics API. `query_timeout_s` is how long a heavy question may take."""

    port: Port = 8003
    read_database_url: SecretStr
    # for access tokens alone
    write_database_url: SecretStr
    redis_url: SecretStr
    redis_timeout_s: Seconds = 0.25
    token_cache_ttl_s: Seconds = 1
    statistics_ttl_s: Number = 300
    # questions at a time in this process; of the cheap ones, a token may have three quarters
    cheap_questions: Number = 8
    cheap_timeout_s: Seconds = 1
    heavy_questions: Number = 4
    heavy_questions_by_caller: Number = 2
    question_wait_s: Seconds = 3
    # events that a question may read: up to the first it counts as cheap, beyond the second it is rejected
    cheap_events: Annotated[int, Field(ge=0)] = 50_000
    max_events: Number = 10_000_000
    # of web pages that may read answers, separated by commas; see services/query/cors.py
    query_allowed_origins: Origins = ()
