"""Measure clips: attributes, tempo and the fingerprint by which duplicates are found."""
