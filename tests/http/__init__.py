"""Servers behind HTTP."""
