"""Layers that the models share."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import tensorflow as tf

# tensorflow-addons has reached its end of life: beside a TensorFlow above 2.15 it cannot be imported. Where it is
# installed it stays in use, because the last bits of a training depend on its operations (docs/next-stack.md).
if importlib.util.find_spec("tensorflow_addons"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its end on import; only this layer of it is used
        from tensorflow_addons.layers import InstanceNormalization
else:
    from trainer.models.instance_normalization import InstanceNormalization

__all__ = ["DilatedBlock", "InstanceNormalization", "Resnet1DBlock", "policy"]


def policy(precision: str) -> tf.keras.mixed_precision.Policy:
    """The Keras policy of a `Config.precision`; variables are always float32.

    It is passed to layers that are mostly matrix products: convolutions and dense layers. Reductions over
    many values, and layers whose output parametrizes a density, stay in float32, the default.
    """
    return tf.keras.mixed_precision.Policy(precision if precision == "float32" else f"mixed_{precision}")


class Resnet1DBlock(tf.keras.layers.Layer):
    """The reference notebook's residual block, unchanged, with its arguments `(kernel_size, filters)`.

    Called as `Resnet1DBlock(64, 1)` it has kernel size 64 and one filter; the residual addition broadcasts
    that one channel over the input's channels.

    Args:
        kernel_size: Of both convolutions.
        filters: Of both convolutions.
        kind: "encode" (strided, InstanceNormalization) or "decode" (transposed, BatchNormalization).
        dtype: Mixed-precision policy of the convolutions.
    """

    def __init__(
        self, kernel_size: int, filters: int, kind: str, dtype: tf.keras.mixed_precision.Policy | None = None
    ) -> None:
        super().__init__(dtype=dtype)
        options: dict[str, Any] = {"padding": "same", "dtype": dtype}
        if kind == "encode":
            self.conv1 = tf.keras.layers.Conv1D(filters, kernel_size, strides=2, **options)
            self.conv2 = tf.keras.layers.Conv1D(filters, kernel_size, strides=1, **options)
            self.norm1, self.norm2 = InstanceNormalization(), InstanceNormalization()
        else:
            self.conv1 = tf.keras.layers.Conv1DTranspose(filters, kernel_size, **options)
            self.conv2 = tf.keras.layers.Conv1DTranspose(filters, kernel_size, **options)
            self.norm1, self.norm2 = ConstantBatchNormalization(), ConstantBatchNormalization()
        self.activation = tf.keras.layers.LeakyReLU(0.4, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[batch, 1, channels]` -> the same shape."""
        y = tf.nn.relu(x)
        # The notebook never passes `training`, so its BatchNormalization stays in inference mode. That is kept as part
        # of the model.
        y = self.activation(self.norm1(self.conv1(y), training=False))
        y = self.activation(self.norm2(self.conv2(y), training=False))
        return tf.nn.relu(y + x)


class ConstantBatchNormalization(tf.keras.layers.BatchNormalization):
    """BatchNormalization for inference mode only: a learned scale and shift."""

    def add_weight(self, *args: Any, **kwargs: Any) -> tf.Variable:
        """Create a variable without `synchronization="on_read"`.

        Otherwise moving statistics would be read by a collective operation, in which all workers would have to take
        part, while only the chief saves, evaluates and generates.
        """
        return super().add_weight(*args, **{**kwargs, "synchronization": tf.VariableSynchronization.AUTO})


class DilatedBlock(tf.keras.layers.Layer):
    """Residual block over time: a dilated convolution of kernel size 3, then a pointwise one.

    Dilation widens the receptive field without widening the kernel (van den Oord et al. 2016, WaveNet,
    section 2.1).
    """

    def __init__(
        self, channels: int, dilation: int, dtype: tf.keras.mixed_precision.Policy | None = None
    ) -> None:
        super().__init__(dtype=dtype)
        self.dilated = tf.keras.layers.Conv1D(
            channels, 3, dilation_rate=dilation, padding="same", dtype=dtype
        )
        # Zeros: the block starts as the identity, which lets a deep stack of them train from the first step.
        self.pointwise = tf.keras.layers.Conv1D(channels, 1, kernel_initializer="zeros", dtype=dtype)
        self.activation = tf.keras.layers.LeakyReLU(0.2, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[batch, steps, channels]` -> the same shape."""
        return x + self.pointwise(self.activation(self.dilated(self.activation(x))))
