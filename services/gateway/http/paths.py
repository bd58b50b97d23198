"""Paths of the gateway's own routes, and what is the same path."""

BATCH_PATH = "/api/events/batch"

INGEST_PATH = "/api/events/ingest"


def normalize_path(path: str) -> str:
    """Return the path without empty parts: a host that ends in `/`, or a path that does, is still what was meant."""
    return "/" + "/".join(part for part in path.split("/") if part)
