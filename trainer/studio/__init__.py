"""A page to make, hear and compare music with a trained run, and to vote in blind listening tests."""
