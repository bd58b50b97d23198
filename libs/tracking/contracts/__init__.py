"""Messages between services: their schemas, examples, encoding, and the names they travel under."""
