"""Administers partners, systems, API keys, event structures and access tokens."""

SERVICE = "admin"
