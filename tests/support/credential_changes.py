"""Changes of credentials for tests without a database: as if they had been read at a moment that never ends."""

import math
from datetime import UTC, datetime
from typing import Any

from tracking.tables.credential_changes import CredentialChanges

EVERY_GENERATION = 1_000_000


def a_change(generation: int, **names: Any) -> dict[str, Any]:
    """A row of `write.credential_changes`."""
    columns = dict.fromkeys(("key_sha256", "token_sha256", "partner_system_id", "partner_id"))
    return {"generation": generation, "changed_at": datetime(2026, 1, 1, tzinfo=UTC), **columns, **names}


def trusted_changes() -> CredentialChanges:
    """Changes among which every generation is known, and none named anything."""
    changes = CredentialChanges("postgresql://127.0.0.1:1/none", service="test")
    changes.apply_reading([a_change(0), a_change(EVERY_GENERATION)], math.inf)
    return changes
