"""The commands `volcanion dead-letters list|show|retry|discard`."""
