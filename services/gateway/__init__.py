"""Receives events: authenticates, validates, commits, answers 202, then publishes."""

SERVICE = "gateway"
