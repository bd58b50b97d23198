"""Models of the bodies, parameters and responses of the routes, with one module for each resource."""
