"""Instance normalization made of Keras's own layers, for where tensorflow-addons cannot be imported."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class InstanceNormalization(tf.keras.layers.GroupNormalization):
    """Normalizes each channel of each example over the other axes (Ulyanov et al. 2016), then scales and shifts it.

    Instance normalization is group normalization with one channel a group. Outputs equal those of the class of the same
    name in tensorflow-addons up to rounding, and the weights `gamma` and `beta`, `[channels]` float32, have the same
    names and order, so that checkpoints are interchangeable. The class must keep its name: Keras derives the names of
    layers and weights from it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(groups=-1, **options)
