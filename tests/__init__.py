"""Tests of the product against its real process and real servers."""
