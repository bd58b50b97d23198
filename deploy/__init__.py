"""What it takes to run the system: the local stack, images, and the configuration of what stands around it."""
