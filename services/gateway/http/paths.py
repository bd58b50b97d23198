"""Paths of the gateway's own routes."""

BATCH_PATH = "/api/events/batch"

INGEST_PATH = "/api/events/ingest"
