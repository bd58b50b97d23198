"""The library the services share: domain rules, message contracts, and everything that opens a socket."""
