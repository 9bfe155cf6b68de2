"""Measure clips: attributes, tempo, beat, key, and the fingerprint by which duplicates are found."""
