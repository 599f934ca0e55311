"""Every fault of a server: what it costs, what is told of it, and that the next call works."""
