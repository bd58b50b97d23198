"""`volcanion rebuild`: make the read model equal to the write database while events come in."""
