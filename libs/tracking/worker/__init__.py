"""The consumer and the inbox of projector and statistics."""
