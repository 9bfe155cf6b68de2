"""Audio files, archives, lists and datasets for tests to read."""
