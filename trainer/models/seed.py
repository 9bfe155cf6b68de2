"""The reference notebook's CVAE, exactly: the baseline that everything else is compared with."""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.config import Config
from trainer.layers import Resnet1DBlock
from trainer.models.base import Posterior, Terms, WaveformVAE

layers = tf.keras.layers


class SeedCVAE(WaveformVAE):
    """A clip is one time step of `clip_samples` channels, so no layer sees time.

    Trainable parameters at 90,001 samples and a latent of 2: 12,120,133.
    """

    caveat = (
        "This model scores a waveform in [-1, 1] with a Bernoulli likelihood, which is defined for values in "
        "[0, 1]. For a negative sample its cross-entropy has no lower bound: pushing the logit down always "
        "raises the ELBO. The ELBO below therefore keeps improving while the reconstruction gets worse; it "
        "cannot be compared with another model's. Trust the SNR, where silence scores 0 dB, and your ears."
    )

    def __init__(self, config: Config, clip_samples: int, genres: int) -> None:
        super().__init__()
        self.clip_samples = clip_samples
        self.latent_dim = config.latent_dim
        self.encoder = tf.keras.Sequential(
            [
                layers.Conv1D(64, 1, 2),
                Resnet1DBlock(64, 1, "encode"),
                layers.Conv1D(128, 1, 2),
                Resnet1DBlock(128, 1, "encode"),
                layers.Conv1D(128, 1, 2),
                Resnet1DBlock(128, 1, "encode"),
                layers.Conv1D(256, 1, 2),
                Resnet1DBlock(256, 1, "encode"),
                layers.Flatten(),
                layers.Dense(2 * config.latent_dim),
            ]
        )
        self.decoder = tf.keras.Sequential(
            [
                layers.Reshape((1, config.latent_dim)),
                Resnet1DBlock(512, 1, "decode"),
                layers.Conv1DTranspose(512, 1, 1),
                Resnet1DBlock(256, 1, "decode"),
                layers.Conv1DTranspose(256, 1, 1),
                Resnet1DBlock(128, 1, "decode"),
                layers.Conv1DTranspose(128, 1, 1),
                Resnet1DBlock(64, 1, "decode"),
                layers.Conv1DTranspose(64, 1, 1),
                layers.Conv1DTranspose(clip_samples, 1, 1),
            ]
        )

    def latent_shape(self, samples: int) -> tuple[int, ...]:
        """One vector a clip."""
        return (self.latent_dim,)

    def encode(self, audio: tf.Tensor, genre: tf.Tensor) -> Posterior:
        """q(z | x), both `[batch, latent_dim]`."""
        return Posterior(*tf.split(self.encoder(audio[:, tf.newaxis, :]), 2, axis=1))

    def decode(self, latent: tf.Tensor, genre: tf.Tensor, samples: int) -> tf.Tensor:
        """Logits `[batch, clip_samples]`."""
        return self.decoder(latent)[:, 0, :]

    def to_audio(self, decoded: tf.Tensor) -> tf.Tensor:
        """What the notebook plays: the sigmoid of the logits, in [0, 1]."""
        return tf.sigmoid(decoded)

    def terms(self, audio: tf.Tensor, genre: tf.Tensor, noise: tf.Tensor, beta: tf.Tensor) -> Terms:
        """Bernoulli log-likelihood and a one-sample estimate of the KL, as in the notebook."""
        posterior = self.encode(audio, genre)
        latent = self.reparameterize(posterior, noise)
        logits = self.decode(latent, genre, audio.shape[-1])
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=audio, logits=logits)
        log_likelihood = -tf.reduce_sum(cross_entropy, axis=-1)
        prior = log_normal(latent, tf.zeros_like(latent), tf.zeros_like(latent))
        kl = log_normal(latent, *posterior) - prior
        return Terms(log_likelihood, kl, beta * kl - log_likelihood)


def log_normal(x: tf.Tensor, mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Log density of a diagonal Gaussian, `[batch, dim]` -> `[batch]`, in nats."""
    squares = tf.square(x - mean) * tf.exp(-log_variance)
    return tf.reduce_sum(-0.5 * (squares + log_variance + math.log(2 * math.pi)), axis=-1)
