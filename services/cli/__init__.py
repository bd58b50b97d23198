"""Command line of the system: inspect dead letters and decide about them, rebuild the read model."""

# The role of the command line in the databases, and the name of its sessions there.
SERVICE = "operate"
