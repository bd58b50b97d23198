"""Commands for a person: look at dead letters and decide about them, rebuild the read model."""

# its role in the databases, and the name of its sessions there
SERVICE = "operate"
