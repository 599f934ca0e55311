"""Authorization, and the one policy about every URL."""
