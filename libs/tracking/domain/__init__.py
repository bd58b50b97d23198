"""The rules of the product in plain Python: partners, partner systems, API keys, event structures, events."""
