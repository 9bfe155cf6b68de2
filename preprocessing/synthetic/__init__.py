"""Synthesize the demo corpus: music of five genres in GTZAN's layout."""
