"""Trains convolutional variational autoencoders on the TFRecords and makes music with them."""

import os

# TensorFlow logs its CPU features and every CUDA library that it does not find, before any call can stop it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
