"""Tests of what a server says being checked: pins, schemas, invisible characters."""
