"""The hierarchical VAE and its parts; `model.py` puts them together."""
