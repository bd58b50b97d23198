"""Look-ups with a cache in front: API keys, event structures, rate limits."""
