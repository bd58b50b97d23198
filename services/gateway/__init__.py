"""Receives events: authenticates the sender, validates and commits the events, answers 202, then publishes them."""

SERVICE = "gateway"
