"""The official conformance suite and what it cannot see."""
