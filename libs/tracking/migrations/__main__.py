"""`python -m tracking.migrations`: create databases, roles and partitions, and apply new migrations; safe to repeat."""

import sys

import psycopg

from tracking.migrations import migrate
from tracking.migrations.settings import MigrationSettings


def main() -> int:
    """Exit 0 when both databases are at the newest schema, 1 with the server's words otherwise."""
    settings = MigrationSettings()
    try:
        migrate(
            settings.write_owner_url.get_secret_value(),
            settings.read_owner_url.get_secret_value(),
            settings.passwords(),
            say=lambda line: print(line, flush=True),
        )
    except psycopg.Error as error:
        print(f"migrations: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
