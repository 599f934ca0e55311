"""The command line and the layers of the program."""
