"""Trains convolutional variational autoencoders on the TFRecords and makes music with them."""

import os
import warnings

# TensorFlow logs its CPU features and every CUDA library that it does not find, before any call can stop it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Google's client libraries tell every importer when they will drop this Python; a notebook need not hear it.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
