"""Generate clips with a trained model."""
