"""`write.dead_letters`: messages that no consumer could apply."""
