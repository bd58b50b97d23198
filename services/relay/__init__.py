"""Publishes what the gateway could not, proves that all was applied, keeps partitions."""

SERVICE = "relay"
