"""Handlers of the routes, one module a resource."""
