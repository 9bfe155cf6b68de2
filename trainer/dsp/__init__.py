"""Transforms of waveforms and distances between them."""
