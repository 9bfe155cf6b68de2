"""The discriminator of log-magnitudes, against which the magnitude decoder learns to sound like music.

A likelihood per bin asks for the median of what may be there, and medians of music are blurred. A network that tells
real magnitudes from decoded ones notices the blur (Goodfellow et al. 2014). The encoder is trained before, and does not
change any more, as in RAVE (Caillon & Esling 2021), whose discriminator sees waveforms.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from tensorflow.keras import layers

from trainer.dsp.frequency_groups import LINEAR_BINS, count_groups, frequency_groups, pool
from trainer.dsp.stft import MIN_LOG_MAGNITUDE
from trainer.models.hierarchical.magnitude_decoder import INITIAL_LOG_MAGNITUDE, UNIT
from trainer.models.layers import policy

FILTERS = 24  # of the first layer
POSITION_DIM = 4  # learned values per group of bins: what is normal differs between low and high frequencies
FEATURE_MATCHING_WEIGHT = 2.0  # of the distance of hidden features, relative to the adversarial loss


class Discriminator(layers.Layer):
    """Log-magnitudes -> a score for each patch of 33 frames and 53 groups of bins: positive for real ones."""

    def __init__(self, bins: int, precision: str) -> None:
        super().__init__()
        dtype = policy(precision)
        self.sections = frequency_groups(bins, 2 * LINEAR_BINS, 1)
        shape = [1, 1, count_groups(self.sections), POSITION_DIM]
        self.position = self.add_weight("position", shape, initializer="zeros")
        self.hidden_layers = [
            layers.Conv2D(FILTERS, (3, 5), strides=(1, 2), padding="same", dtype=dtype),
            layers.Conv2D(2 * FILTERS, (3, 5), strides=2, padding="same", dtype=dtype),
            layers.Conv2D(4 * FILTERS, 3, strides=2, padding="same", dtype=dtype),
            layers.Conv2D(4 * FILTERS, 3, dilation_rate=(2, 1), padding="same", dtype=dtype),
        ]
        # Without a bias, whose gradient is zero wherever both hinges are active: Adam would follow its rounding errors.
        self.output_layer = layers.Conv2D(1, 3, padding="same", use_bias=False)
        self.activation = layers.LeakyReLU(0.2, dtype=dtype)

    def call(self, log_magnitudes: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Score patches.

        Args:
            log_magnitudes: `[batch, frames, bins]`, in nats.

        Returns:
            Scores, `[batch, patches in time, patches in frequency]`, and the features of the hidden layers, float32.
        """
        audible = pool(tf.maximum(log_magnitudes, MIN_LOG_MAGNITUDE), self.sections)
        x = ((audible - INITIAL_LOG_MAGNITUDE) / UNIT)[..., tf.newaxis]
        x = tf.concat([x, tf.zeros_like(x) + self.position], axis=-1)
        features = []
        for layer in self.hidden_layers:
            x = self.activation(layer(x))
            features.append(tf.cast(x, tf.float32))
        return tf.cast(self.output_layer(x), tf.float32)[..., 0], features


class AdversarialLosses(NamedTuple):
    """Losses of clips, `[batch]` each."""

    discriminator: tf.Tensor  # its gradient reaches the discriminator only
    decoder: tf.Tensor  # its gradient reaches what decoded the magnitudes only


def adversarial_losses(
    discriminator: Discriminator, real: tf.Tensor, decoded: tf.Tensor
) -> AdversarialLosses:
    """Compute hinge losses (Lim & Ye 2017) and feature matching (Larsen et al. 2016).

    Args:
        discriminator: Scores both.
        real: Log-magnitudes, `[batch, frames, bins]`.
        decoded: Those of the same clips, of the same shape.
    """
    scores, features = discriminator(tf.concat([real, tf.stop_gradient(decoded), decoded], axis=0))
    of_real, of_stopped, of_decoded = (
        _Judgement(score, layers_features)
        for score, layers_features in zip(
            tf.split(scores, 3), zip(*(tf.split(x, 3) for x in features), strict=True), strict=True
        )
    )
    hinge = _mean(tf.nn.relu(1 - of_real.scores)) + _mean(tf.nn.relu(1 + of_stopped.scores))
    # The second term has the same gradient for the discriminator as the first, and none for the decoder.
    decoder = _decoder_loss(of_decoded, of_real) - _decoder_loss(of_stopped, of_real)
    return AdversarialLosses(hinge, decoder)


class _Judgement(NamedTuple):
    scores: tf.Tensor
    features: tuple[tf.Tensor, ...]


def _decoder_loss(decoded: _Judgement, real: _Judgement) -> tf.Tensor:
    distances = [
        _mean(tf.abs(one - tf.stop_gradient(other))) / (tf.stop_gradient(_mean(tf.abs(other))) + 1e-3)
        for one, other in zip(decoded.features, real.features, strict=True)
    ]
    return FEATURE_MATCHING_WEIGHT * tf.add_n(distances) / len(distances) - _mean(decoded.scores)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """`[batch, ...]` -> `[batch]`."""
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)
