"""Consumes batches of events and keeps the rollups."""
