"""The services, with one package for each process. Services import `tracking`, never each other."""
