"""Small models, and runs that hold them."""
