"""Verify a finished dataset and report on it."""
