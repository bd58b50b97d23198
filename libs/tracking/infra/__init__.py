"""Everything with a socket, a file or a clock; no rule of the domain."""
