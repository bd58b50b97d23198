"""Settings of the migrations, read from the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class MigrationSettings(BaseSettings):
    """Settings of `python -m tracking.migrations`; the owner URLs are of a role that may create databases and roles."""

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
