"""The preset `wave`: a convolutional VAE along time, conditional on genre."""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.config import Config
from trainer.layers import DilatedBlock
from trainer.models.base import Posterior, Terms, WaveformVAE

layers = tf.keras.layers

DILATIONS = (1, 3, 9)
SMALLEST_SCALE = 2.0**-12  # below it the likelihood would reward the noise of 16-bit files
LOG_VARIANCE_RANGE = (-10.0, 4.0)  # beyond it exp() overflows long before it means anything


class WaveCVAE(WaveformVAE):
    """Encoder and decoder are mirror images: strided convolutions down, transposed ones up, along time.

    The likelihood is Gaussian with one learned scale, in units of the waveform: at its optimum it is the
    reconstruction's root mean square error, which balances both terms without a hand-set weight (Rybkin et
    al. 2021, "Simple and effective VAE training with calibrated decoders", section 4).
    """

    conditional = True
    caveat = (
        "Reconstructions and variations keep the music. New clips do not have any yet: their latents are "
        "drawn independently for every frame, so they have the corpus's colour but neither melody nor beat. "
        "The model's prior, not its decoder, is what limits them."
    )

    def __init__(self, config: Config, clip_samples: int, genres: int) -> None:
        super().__init__()
        self.clip_samples = clip_samples
        self.latent_dim = config.latent_dim
        self.frame_samples = math.prod(config.strides)
        self.free_bits = config.free_bits
        self.log_scale = tf.Variable(math.log(0.1), name="log_scale")
        down, up = [], []
        for stride, channels in zip(config.strides, config.channels, strict=True):
            down.append(layers.Conv1D(channels, 2 * stride, stride, padding="same"))
            down.extend(DilatedBlock(channels, dilation) for dilation in DILATIONS)
        outputs = (1, *config.channels[:-1])  # the mirror image: each stride goes back to the width before it
        for stride, channels, output in zip(
            config.strides[::-1], config.channels[::-1], outputs[::-1], strict=True
        ):
            up.extend(DilatedBlock(channels, dilation) for dilation in DILATIONS[::-1])
            up.append(layers.Conv1DTranspose(output, 2 * stride, stride, padding="same"))
        self.encoder = tf.keras.Sequential([*down, layers.LeakyReLU(0.2)])
        self.to_mean = layers.Conv1D(config.latent_dim, 3, padding="same")
        # Starts almost without noise, so that the decoder learns to use the latent before the KL term bites.
        self.to_log_variance = layers.Conv1D(
            config.latent_dim, 3, padding="same", bias_initializer=tf.keras.initializers.Constant(-4.0)
        )
        self.from_latent = layers.Conv1D(config.channels[-1], 3, padding="same")
        self.genres = genres  # one more row than genres: for one that is left open
        self.encoder_genre = layers.Embedding(genres + 1, config.channels[-1])
        self.decoder_genre = layers.Embedding(genres + 1, config.channels[-1])
        self.decoder = tf.keras.Sequential(up)

    def latent_shape(self, samples: int) -> tuple[int, ...]:
        """`[frames, latent_dim]`."""
        return (-(-samples // self.frame_samples), self.latent_dim)

    def encode(self, audio: tf.Tensor, genre: tf.Tensor) -> Posterior:
        """q(z | x, genre), both `[batch, frames, latent_dim]`."""
        padding = -audio.shape[-1] % self.frame_samples
        x = tf.pad(audio, [[0, 0], [0, padding]])[..., tf.newaxis]
        x = self.encoder(x) + self.encoder_genre(self._row(genre))[:, tf.newaxis, :]
        log_variance = tf.clip_by_value(self.to_log_variance(x), *LOG_VARIANCE_RANGE)
        return Posterior(self.to_mean(x), log_variance)

    def decode(self, latent: tf.Tensor, genre: tf.Tensor, samples: int) -> tf.Tensor:
        """The mean of p(x | z, genre), `[batch, samples]`."""
        x = self.from_latent(latent) + self.decoder_genre(self._row(genre))[:, tf.newaxis, :]
        return self.decoder(x)[:, :samples, 0]

    def _row(self, genre: tf.Tensor) -> tf.Tensor:
        return tf.math.floormod(genre, self.genres + 1)  # ANY_GENRE, -1, is the last row

    def to_audio(self, decoded: tf.Tensor) -> tf.Tensor:
        """The mean, kept in [-1, 1]."""
        return tf.clip_by_value(decoded, -1.0, 1.0)

    def terms(self, audio: tf.Tensor, genre: tf.Tensor, noise: tf.Tensor, beta: tf.Tensor) -> Terms:
        """Gaussian log-likelihood and the exact KL to N(0, 1), with free bits in the objective only."""
        posterior = self.encode(audio, genre)
        mean = self.decode(self.reparameterize(posterior, noise), genre, audio.shape[-1])
        log_scale = tf.maximum(self.log_scale, math.log(SMALLEST_SCALE))
        errors = tf.square((audio - mean) * tf.exp(-log_scale))
        log_likelihood = tf.reduce_sum(-0.5 * errors - log_scale - 0.5 * math.log(2 * math.pi), axis=-1)
        kl = kl_to_standard_normal(posterior)  # [batch, frames, latent_dim]
        # Free bits per latent channel (Kingma et al. 2016, appendix C.8), so that none is switched off.
        frames = tf.cast(tf.shape(kl)[1], tf.float32)
        counted = frames * tf.maximum(tf.reduce_mean(kl, axis=1), self.free_bits)
        objective = beta * tf.reduce_sum(counted, axis=-1) - log_likelihood
        return Terms(log_likelihood, tf.reduce_sum(kl, axis=[1, 2]), objective)


def kl_to_standard_normal(posterior: Posterior) -> tf.Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each latent value, in nats (Kingma & Welling 2014, appendix B)."""
    variance = tf.exp(posterior.log_variance)
    return 0.5 * (tf.square(posterior.mean) + variance - 1.0 - posterior.log_variance)
