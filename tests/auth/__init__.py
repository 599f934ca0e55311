"""Logins, tokens and what must never happen to them."""
