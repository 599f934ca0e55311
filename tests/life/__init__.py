"""Start, stop and death of the process and its children."""
