"""Servers that others wrote."""
