"""The blocks that models are made of."""

from __future__ import annotations

import warnings

import tensorflow as tf

with warnings.catch_warnings():
    # tensorflow-addons has ended its life and says so at import; only this name of it is used.
    warnings.simplefilter("ignore")
    from tensorflow_addons.layers import InstanceNormalization


def policy(precision: str) -> tf.keras.mixed_precision.Policy:
    """What layers compute in, of a `Config.precision`; variables are always float32.

    Given to each layer that is mostly products: convolutions and dense layers. What adds many values up, and
    every layer whose output a density is made of, stays in float32, as does whatever is not told otherwise.
    """
    return tf.keras.mixed_precision.Policy(precision if precision == "float32" else f"mixed_{precision}")


class Resnet1DBlock(tf.keras.layers.Layer):
    """The reference notebook's residual block, as it is: `(kernel_size, filters)` in that order.

    Called `Resnet1DBlock(64, 1)` it has kernel 64 and one filter, whose single channel the skip connection
    broadcasts over the input's. `kind` is "encode" (strided, InstanceNormalization) or "decode" (transposed,
    BatchNormalization).
    """

    def __init__(
        self, kernel_size: int, filters: int, kind: str, dtype: tf.keras.mixed_precision.Policy | None = None
    ) -> None:
        super().__init__(dtype=dtype)
        of = {"padding": "same", "dtype": dtype}
        if kind == "encode":
            self.conv1 = tf.keras.layers.Conv1D(filters, kernel_size, strides=2, **of)
            self.conv2 = tf.keras.layers.Conv1D(filters, kernel_size, strides=1, **of)
            self.norm1, self.norm2 = InstanceNormalization(), InstanceNormalization()
        else:
            self.conv1 = tf.keras.layers.Conv1DTranspose(filters, kernel_size, **of)
            self.conv2 = tf.keras.layers.Conv1DTranspose(filters, kernel_size, **of)
            self.norm1 = tf.keras.layers.BatchNormalization()
            self.norm2 = tf.keras.layers.BatchNormalization()
        self.activation = tf.keras.layers.LeakyReLU(0.4, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[batch, 1, channels]` -> the same shape."""
        y = tf.nn.relu(x)
        # The notebook never passes `training`, so its BatchNormalization stays in inference mode: a learned
        # scale and shift. That is part of the model.
        y = self.activation(self.norm1(self.conv1(y), training=False))
        y = self.activation(self.norm2(self.conv2(y), training=False))
        return tf.nn.relu(y + x)


class DilatedBlock(tf.keras.layers.Layer):
    """Residual block along time: a dilated convolution of 3, then a pointwise one.

    `[batch, frames, channels]` -> the same shape. Dilation widens what a frame sees without widening the
    kernel (van den Oord et al. 2016, WaveNet, section 2.1).
    """

    def __init__(
        self, channels: int, dilation: int, dtype: tf.keras.mixed_precision.Policy | None = None
    ) -> None:
        super().__init__(dtype=dtype)
        self.dilated = tf.keras.layers.Conv1D(
            channels, 3, dilation_rate=dilation, padding="same", dtype=dtype
        )
        # Starts at zero: the block is the identity at first, and a deep stack of them trains at once.
        self.pointwise = tf.keras.layers.Conv1D(channels, 1, kernel_initializer="zeros", dtype=dtype)
        self.activation = tf.keras.layers.LeakyReLU(0.2, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Adds what the two convolutions find to `x`."""
        return x + self.pointwise(self.activation(self.dilated(self.activation(x))))
