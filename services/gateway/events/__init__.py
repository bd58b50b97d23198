"""Decisions about events without IO: decode, decide, privacy, SDK messages."""
