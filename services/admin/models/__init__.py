"""Bodies, parameters and answers of the routes, one module a resource."""
