"""What fills the envelope of `wave`: p(coefficients_t | coefficients_<t, log-scales).

A steady tone's MDCT coefficients turn from frame to frame by an angle that depends on its exact frequency, so
a coefficient is nearly a linear combination of its neighbours in the frames before, with weights that those
same neighbours betray. A small network, the same for every bin, reads them: normalized products of pairs of
neighbours in, the weights of the combination and the scale of what is left out.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from trainer.models.layers import policy

layers = tf.keras.layers

QUIETEST = 2.0**-12  # of a coefficient: below it a density would reward the rounding of 16-bit files
LOG_QUIETEST = math.log(QUIETEST)
LAGS = 4  # frames of the past that are seen
REACH = 2  # bins to each side
NEIGHBOURS = LAGS * (2 * REACH + 1)
PRODUCTS = 24
LOG_SCALE_RANGE = (-3.0, 2.0)  # of a coefficient around its prediction, relative to the envelope
LARGEST = 8.0  # of a coefficient relative to the envelope, as the past is seen


class TransformCoefficientModel(layers.Layer):
    """Predicts coefficients, in units of the envelope, from those before."""

    def __init__(self, bins: int, units: int, precision: str = "float32") -> None:
        super().__init__()
        dtype = policy(precision)
        self._compute_in = dtype.compute_dtype
        self.left = layers.Dense(PRODUCTS, use_bias=False, dtype=dtype)
        self.right = layers.Dense(PRODUCTS, use_bias=False, dtype=dtype)
        self.hidden = [layers.Dense(units, dtype=dtype), layers.Dense(units, dtype=dtype)]
        self.activation = layers.LeakyReLU(0.1, dtype=dtype)
        # Starts as the envelope alone.
        self.output_layer = layers.Dense(NEIGHBOURS + 1, kernel_initializer="zeros")
        position = np.arange(bins) / bins
        # Odd bins turn by half a circle more than even ones.
        parity = (-1.0) ** np.arange(bins)
        self._place = np.stack([parity, 2 * position - 1, np.exp(-16 * position)], -1).astype(np.float32)

    def call(self, past: tf.Tensor, log_scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and log-scale of coefficients, in units of the envelope.

        Args:
            past: `[..., LAGS, bins]`, the frames before in units of their envelopes, newest first.
            log_scale: `[..., bins]`, the envelope.

        Returns:
            Both `[..., bins]`; the scale is not below `QUIETEST` of full scale.
        """
        seen = self._neighbours(past)
        energy = tf.reduce_mean(tf.square(seen), axis=-1, keepdims=True)
        # Whether the whole neighbourhood changes its sign must not matter: products do not notice.
        products = self.left(seen) * self.right(seen) * tf.cast(1 / (energy + 0.05), self._compute_in)
        own = tf.square(tf.linalg.matrix_transpose(past))
        place = tf.broadcast_to(self._place, [*_shape(log_scale), self._place.shape[-1]])
        features = [products, tf.math.log(energy + 0.01), tf.math.log(own + 0.01), _slopes(log_scale), place]
        x = tf.concat([tf.cast(part, self._compute_in) for part in features], axis=-1)
        for layer in self.hidden:
            x = self.activation(layer(x))
        # Split, and not sliced: each slice would have a gradient as large as the whole.
        weights, log_spread = tf.split(self.output_layer(x), [NEIGHBOURS, 1], axis=-1)
        mean = tf.reduce_sum(weights * seen, axis=-1)
        log_spread = tf.clip_by_value(tf.squeeze(log_spread, axis=-1), *LOG_SCALE_RANGE)
        return mean, tf.maximum(log_spread, LOG_QUIETEST - log_scale)

    def of_all_frames(self, relative: tf.Tensor, log_scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` for every frame of `[batch, frames, bins]` at once, each given the true frames before."""
        frames = relative.shape[1]
        padded = tf.pad(tf.clip_by_value(relative, -LARGEST, LARGEST), [[0, 0], [LAGS, 0], [0, 0]])
        past = tf.stack([padded[:, LAGS - 1 - lag : LAGS - 1 - lag + frames] for lag in range(LAGS)], axis=2)
        return self(past, log_scale)

    def sample(
        self,
        log_scale: tf.Tensor,
        known: tf.Tensor,
        limit: tf.Tensor,
        noise: tf.Tensor,
        residual_noise_scale: float,
    ) -> tf.Tensor:
        """Draws the coefficients that are not known, frame by frame.

        Args:
            log_scale: `[batch, frames, bins]`, the envelope.
            known: `[batch, frames, bins]`, coefficients, NaN where they are to be drawn.
            limit: `[batch, frames, 1]`, what is drawn is no larger.
            noise: `[batch or 1, frames, bins]` standard normal.
            grain: Largest standard deviation of the noise, in units of `limit`.

        Returns:
            `[batch, frames, bins]`, `known` where it is known.
        """
        batch, frames, bins = tf.shape(log_scale)[0], tf.shape(log_scale)[1], log_scale.shape[-1]
        past = tf.zeros([batch, LAGS, bins])
        filled = tf.TensorArray(tf.float32, frames, element_shape=[None, bins])
        for frame in tf.range(frames):
            scale = tf.exp(log_scale[:, frame])
            mean, log_spread = self(past, log_scale[:, frame])
            spread = tf.minimum(scale * tf.exp(log_spread), residual_noise_scale * limit[:, frame])
            drawn = scale * mean + spread * noise[:, frame]
            most = tf.minimum(limit[:, frame], LARGEST * scale)
            drawn = tf.clip_by_value(drawn, -most, most)
            value = tf.where(tf.math.is_nan(known[:, frame]), drawn, known[:, frame])
            relative = tf.clip_by_value(value / scale, -LARGEST, LARGEST)
            past = tf.concat([relative[:, tf.newaxis], past[:, :-1]], axis=1)
            filled = filled.write(frame, value)
        return tf.transpose(filled.stack(), [1, 0, 2])

    def _neighbours(self, past: tf.Tensor) -> tf.Tensor:
        """`[..., LAGS, bins]` -> `[..., bins, NEIGHBOURS]`."""
        bins, others = past.shape[-1], past.shape.rank - 1
        padded = tf.pad(past, [[0, 0]] * others + [[REACH, REACH]])
        # Not `padded[...]`, whose gradient takes three times as long.
        shifted = [
            tf.slice(padded, [0] * others + [offset], [-1] * others + [bins])
            for offset in range(2 * REACH + 1)
        ]
        return tf.linalg.matrix_transpose(tf.concat(shifted, axis=-2))


def _slopes(log_scale: tf.Tensor) -> tf.Tensor:
    """How the envelope changes to both sides, and its level, `[..., bins]` -> `[..., bins, 3]`."""
    padded = tf.pad(log_scale, [[0, 0]] * (log_scale.shape.rank - 1) + [[1, 1]], "SYMMETRIC")
    level = (log_scale + 4.0) / 2.0
    return tf.stack([padded[..., 2:] - log_scale, padded[..., :-2] - log_scale, level], axis=-1)


def _shape(tensor: tf.Tensor) -> list:
    dynamic = tf.unstack(tf.shape(tensor))
    return [size if size is not None else dynamic[axis] for axis, size in enumerate(tensor.shape)]
