"""The coefficient model: p(MDCT coefficients of frame t | those of the frames before, spectral envelope).

A steady tone's MDCT coefficients rotate from frame to frame by an angle that depends on its exact frequency.
Each is therefore nearly a linear combination of its neighbours in the frames before, with weights that can be
computed from those neighbours. A small network, shared by all bins, computes them: from normalized products of pairs of
neighbours it predicts the weights of the combination and the scale of the residual.

Coefficients are relative: divided by their scale in the spectral envelope.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

from trainer.dsp.sizes import sizes
from trainer.models.gaussian import HALF_LOG_2PI
from trainer.models.layers import policy

MIN_SCALE = 2.0**-12  # of a coefficient: below it a density would reward the rounding of 16-bit files
LOG_MIN_SCALE = math.log(MIN_SCALE)
LAGS = 4  # past frames in the context
REACH = 2  # bins of the context to each side
NEIGHBOURS = LAGS * (2 * REACH + 1)
PRODUCTS = 24
LOG_SCALE_RANGE = (-3.0, 2.0)  # of the residual, relative to the envelope
MAX_RELATIVE = 8.0  # largest relative coefficient, in the context and as sampled


class TransformCoefficientModel(layers.Layer):
    """Predicts each frame's relative coefficients from the frames before."""

    def __init__(self, bins: int, units: int, precision: str = "float32") -> None:
        super().__init__()
        dtype = policy(precision)
        self._compute_in = dtype.compute_dtype
        self.left = layers.Dense(PRODUCTS, use_bias=False, dtype=dtype)
        self.right = layers.Dense(PRODUCTS, use_bias=False, dtype=dtype)
        self.hidden = [layers.Dense(units, dtype=dtype), layers.Dense(units, dtype=dtype)]
        self.activation = layers.LeakyReLU(0.1, dtype=dtype)
        # Zeros, so that training starts from the envelope alone.
        self.output_layer = layers.Dense(NEIGHBOURS + 1, kernel_initializer="zeros")
        self._bin_features = _bin_features(bins)

    def call(self, past: tf.Tensor, log_scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and log-scale of the relative coefficients of a frame.

        Args:
            past: `[..., LAGS, bins]`, the relative coefficients of the frames before, newest first.
            log_scale: `[..., bins]`, the envelope.

        Returns:
            Both `[..., bins]`; the absolute scale is at least `MIN_SCALE`.
        """
        neighbours = _neighbours(past)  # [..., bins, NEIGHBOURS]
        energy = tf.reduce_mean(tf.square(neighbours), axis=-1, keepdims=True)
        # Products, because they do not change if the whole neighbourhood changes its sign.
        products = (
            self.left(neighbours) * self.right(neighbours) * tf.cast(1 / (energy + 0.05), self._compute_in)
        )
        own = tf.square(tf.linalg.matrix_transpose(past))
        bin_features = tf.broadcast_to(self._bin_features, [*sizes(log_scale), self._bin_features.shape[-1]])
        features = [
            products, tf.math.log(energy + 0.01), tf.math.log(own + 0.01), _slopes(log_scale), bin_features,
        ]  # fmt: skip
        x = tf.concat([tf.cast(feature, self._compute_in) for feature in features], axis=-1)
        for layer in self.hidden:
            x = self.activation(layer(x))
        # Split rather than sliced: the gradient of each slice would be as large as the whole.
        weights, log_spread = tf.split(self.output_layer(x), [NEIGHBOURS, 1], axis=-1)
        mean = tf.reduce_sum(weights * neighbours, axis=-1)
        log_spread = tf.clip_by_value(tf.squeeze(log_spread, axis=-1), *LOG_SCALE_RANGE)
        return mean, tf.maximum(log_spread, LOG_MIN_SCALE - log_scale)

    def predict_frames(self, relative: tf.Tensor, log_scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` for all frames of `[batch, frames, bins]` at once, teacher-forced on the true past."""
        frames = relative.shape[1]
        padded = tf.pad(tf.clip_by_value(relative, -MAX_RELATIVE, MAX_RELATIVE), [[0, 0], [LAGS, 0], [0, 0]])
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
        """Sample the coefficients that are not known, frame by frame.

        Args:
            log_scale: `[batch, frames, bins]`, the envelope.
            known: `[batch, frames, bins]`, absolute coefficients; NaN: to be sampled.
            limit: `[batch, frames, 1]`, largest magnitude of a sampled coefficient.
            noise: `[batch or 1, frames, bins]` standard normal.
            residual_noise_scale: Largest standard deviation of the residual, in units of `limit`.

        Returns:
            `[batch, frames, bins]` absolute coefficients, those of `known` where they are known.
        """
        batch, frames, bins = tf.shape(log_scale)[0], tf.shape(log_scale)[1], log_scale.shape[-1]
        coefficients = tf.TensorArray(tf.float32, frames, element_shape=[None, bins])

        def sample_frame(frame: tf.Tensor, past: tf.Tensor, coefficients: tf.TensorArray) -> tuple:
            scale = tf.exp(log_scale[:, frame])
            mean, log_spread = self(past, log_scale[:, frame])
            spread = tf.minimum(scale * tf.exp(log_spread), residual_noise_scale * limit[:, frame])
            sampled = scale * mean + spread * noise[:, frame]
            largest = tf.minimum(limit[:, frame], MAX_RELATIVE * scale)
            sampled = tf.clip_by_value(sampled, -largest, largest)
            current = tf.where(tf.math.is_nan(known[:, frame]), sampled, known[:, frame])
            relative = tf.clip_by_value(current / scale, -MAX_RELATIVE, MAX_RELATIVE)
            past = tf.concat([relative[:, tf.newaxis], past[:, :-1]], axis=1)
            return frame + 1, past, coefficients.write(frame, current)

        start = 0, tf.zeros([batch, LAGS, bins]), coefficients
        _, _, coefficients = tf.while_loop(lambda frame, *_: frame < frames, sample_frame, start)
        return tf.transpose(coefficients.stack(), [1, 0, 2])


def likelihood_correction(coefficients: int, samples: int) -> float:
    """Largest amount in nats by which a density of more coefficients than samples exceeds one of the samples.

    A redundant coefficient is 0, where its density is at most that of a Gaussian of scale `MIN_SCALE`.
    Subtracting the correction leaves a lower bound of the log-likelihood, so that ELBOs can be compared.
    """
    return (coefficients - samples) * (-LOG_MIN_SCALE - HALF_LOG_2PI)


def _neighbours(past: tf.Tensor) -> tf.Tensor:
    """`[..., LAGS, bins]` -> `[..., bins, NEIGHBOURS]`."""
    bins, others = past.shape[-1], past.shape.rank - 1
    padded = tf.pad(past, [[0, 0]] * others + [[REACH, REACH]])
    # Not `padded[...]`, whose gradient takes three times as long.
    shifted = [
        tf.slice(padded, [0] * others + [offset], [-1] * others + [bins]) for offset in range(2 * REACH + 1)
    ]
    return tf.linalg.matrix_transpose(tf.concat(shifted, axis=-2))


def _bin_features(bins: int) -> np.ndarray:
    """Parity, position and nearness to the lowest bin of each bin, `[bins, 3]` float32."""
    position = np.arange(bins) / bins
    # Odd bins rotate by half a turn more per frame than even ones.
    parity = (-1.0) ** np.arange(bins)
    return np.stack([parity, 2 * position - 1, np.exp(-16 * position)], -1).astype(np.float32)


def _slopes(log_scale: tf.Tensor) -> tf.Tensor:
    """The envelope's slope to either side and its level, `[..., bins]` -> `[..., bins, 3]`."""
    padded = tf.pad(log_scale, [[0, 0]] * (log_scale.shape.rank - 1) + [[1, 1]], "SYMMETRIC")
    level = (log_scale + 4.0) / 2.0
    return tf.stack([padded[..., 2:] - log_scale, padded[..., :-2] - log_scale, level], axis=-1)
