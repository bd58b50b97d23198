"""HTTP for every service: the server and its protocol, deadlines, errors, JSON and OpenAPI."""
