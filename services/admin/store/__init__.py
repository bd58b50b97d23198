"""SQL of the registry, one module a table."""
