"""Tests of where credentials rest."""
