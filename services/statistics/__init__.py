"""Consumes batches of events and keeps the rollups."""

SERVICE = "statistics"
