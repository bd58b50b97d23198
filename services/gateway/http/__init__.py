"""The gateway over HTTP: routes, requests, responses and their documentation."""
