"""Tables that several services read or write: one module a table, with all of its SQL."""
