"""Everything that runs the system: the local stack, container images, and configuration of the servers around it."""
