"""Train a model: the loop, the train step and what surrounds them."""
