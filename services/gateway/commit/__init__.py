"""Stores events: group commit, micro-batches, and publishing after the commit."""
