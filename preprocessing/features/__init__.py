"""Measure clips: attributes, tempo and the fingerprint that finds duplicates."""
