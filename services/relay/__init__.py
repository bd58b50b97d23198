"""Publishes batches that the gateway could not, verifies that all were applied, maintains partitions."""

SERVICE = "relay"
