"""Bytes in, status out: routes, requests, responses and their documentation."""
