"""Decides about events without IO: decoding, decisions, privacy, messages of SDKs."""
