"""One package for each process; services know `tracking`, never each other."""
