"""A run's state on disk and in a bucket."""
