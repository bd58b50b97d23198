"""The command `volcanion rebuild`: makes the read model equal to the write database while events come in."""
