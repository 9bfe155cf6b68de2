"""Export a trained model as a TensorFlow SavedModel, which runs without this project."""
