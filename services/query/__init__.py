"""The analytics API: answers from the read model."""

SERVICE = "query"
