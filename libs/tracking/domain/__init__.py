"""The rules of the product in plain Python: partners, systems, keys, structures, events."""
