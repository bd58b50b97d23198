"""Consumes batches of events and writes the denormalised read model."""

SERVICE = "projector"
