"""Storing events: group commit, micro-batches, publishing after the commit."""
