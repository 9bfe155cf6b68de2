"""Trains convolutional variational autoencoders on the TFRecords and makes music with them."""

import os
import warnings

# TensorFlow logs its CPU features and every CUDA library that it does not find, before any call can stop it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# In TensorFlow 2.15 oneDNN's bfloat16 kernels for AMX give a convolution whose kernel is longer than its
# input, as the seed's are, a gradient that now and then is NaN, from memory that nobody wrote.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
# Google's client libraries tell every importer when they will drop this Python; a notebook need not hear it.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
