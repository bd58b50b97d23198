"""Answers analytics from the read model."""
