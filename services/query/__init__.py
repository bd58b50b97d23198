"""Answers analytics from the read model."""

SERVICE = "query"
