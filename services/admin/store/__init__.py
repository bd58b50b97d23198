"""SQL of the registry, with one module for each table."""
