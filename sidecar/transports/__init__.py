"""The hardened transports under the engine, and the guard of child processes."""
