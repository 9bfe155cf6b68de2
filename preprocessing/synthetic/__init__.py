"""Synthesize the demo corpus."""
