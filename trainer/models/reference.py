"""The reference notebook's CVAE, exactly: the baseline that everything else is compared with."""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.conditioning import Condition, Guidance
from trainer.config import Config
from trainer.models.base import ElboTerms, WaveformVAE
from trainer.models.layers import Resnet1DBlock, policy
from trainer.run_config import DatasetMetadata

layers = tf.keras.layers


class ReferenceCVAE(WaveformVAE):
    """A clip is one time step of `clip_samples` channels, so no layer sees time.

    Trainable parameters at 90,001 samples and a latent of 2: 12,120,133.
    """

    levels = ("clip",)
    caveat = (
        "This model scores a waveform in [-1, 1] with a Bernoulli likelihood, which is defined for values in "
        "[0, 1]. For a negative sample its cross-entropy has no lower bound: pushing the logit down always "
        "raises the ELBO. The ELBO below therefore keeps improving while the reconstruction gets worse; it "
        "cannot be compared with another model's. Trust the SNR, where silence scores 0 dB, and your ears."
    )

    def __init__(self, config: Config, metadata: DatasetMetadata) -> None:
        super().__init__()
        self.smallest_samples = clip_samples = metadata.clip_samples
        self.latent_dim = config.latent_dim
        dtype = policy(config.precision)
        self.encoder = tf.keras.Sequential(
            [
                layers.Conv1D(64, 1, 2, dtype=dtype),
                Resnet1DBlock(64, 1, "encode", dtype),
                layers.Conv1D(128, 1, 2, dtype=dtype),
                Resnet1DBlock(128, 1, "encode", dtype),
                layers.Conv1D(128, 1, 2, dtype=dtype),
                Resnet1DBlock(128, 1, "encode", dtype),
                layers.Conv1D(256, 1, 2, dtype=dtype),
                Resnet1DBlock(256, 1, "encode", dtype),
                layers.Flatten(),
                layers.Dense(2 * config.latent_dim),
            ]
        )
        self.decoder = tf.keras.Sequential(
            [
                layers.Reshape((1, config.latent_dim)),
                Resnet1DBlock(512, 1, "decode", dtype),
                layers.Conv1DTranspose(512, 1, 1, dtype=dtype),
                Resnet1DBlock(256, 1, "decode", dtype),
                layers.Conv1DTranspose(256, 1, 1, dtype=dtype),
                Resnet1DBlock(128, 1, "decode", dtype),
                layers.Conv1DTranspose(128, 1, 1, dtype=dtype),
                Resnet1DBlock(64, 1, "decode", dtype),
                layers.Conv1DTranspose(64, 1, 1, dtype=dtype),
                layers.Conv1DTranspose(clip_samples, 1, 1),
            ]
        )

    def noise_size(self, samples: int) -> int:
        """One vector a clip."""
        return self.latent_dim

    def sample_noise_size(self, samples: int) -> int:
        """One vector a clip."""
        return self.latent_dim

    def values_per_clip(self, samples: int) -> int:
        """One vector a clip."""
        return self.latent_dim

    def posterior(self, audio: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and log-variance of q(z | x), both `[batch, latent_dim]`."""
        mean, log_variance = tf.split(self.encoder(audio[:, tf.newaxis, :]), 2, axis=1)
        return mean, log_variance

    def reparameterize(self, mean: tf.Tensor, log_variance: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """A latent of the posterior from standard normal `noise` (Kingma & Welling 2014, section 2.4)."""
        return mean + noise * tf.exp(0.5 * log_variance)

    def logits(self, latent: tf.Tensor) -> tf.Tensor:
        """`[batch, latent_dim]` -> `[batch, clip_samples]`."""
        return self.decoder(latent)[:, 0, :]

    def elbo_terms(
        self, audio: tf.Tensor, condition: Condition, noise: tf.Tensor, beta: tf.Tensor
    ) -> ElboTerms:
        """Bernoulli log-likelihood and a one-sample estimate of the KL, as in the notebook."""
        mean, log_variance = self.posterior(audio)
        latent = self.reparameterize(mean, log_variance, noise)
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=audio, logits=self.logits(latent))
        log_likelihood = -tf.reduce_sum(cross_entropy, axis=-1)
        prior = log_normal(latent, tf.zeros_like(latent), tf.zeros_like(latent))
        kl = log_normal(latent, mean, log_variance) - prior
        return ElboTerms(log_likelihood, kl[:, tf.newaxis], beta * kl - log_likelihood)

    def encode(self, audio: tf.Tensor, condition: Condition) -> tf.Tensor:
        """The posterior's mean."""
        return self.posterior(audio)[0]

    def sample(
        self, condition: Condition, samples: int, noise: tf.Tensor, temperature: float, guidance: Guidance
    ) -> tf.Tensor:
        """N(0, temperature squared)."""
        return temperature * noise

    def probabilities(self, latent: tf.Tensor) -> tf.Tensor:
        """What the notebook plays: the sigmoid of the logits, in [0, 1]."""
        return tf.sigmoid(self.logits(latent))

    def decode(self, latents: tf.Tensor, condition: Condition, samples: int, noise: tf.Tensor) -> tf.Tensor:
        """`probabilities`; only whole clips."""
        return self.probabilities(latents)[:, :samples]

    def level_values(self, latents: tf.Tensor) -> dict[str, tf.Tensor]:
        """Of the one level."""
        return {"clip": latents}

    def add_noise(self, latents: tf.Tensor, noise_scale: float, noise: tf.Tensor) -> tf.Tensor:
        """A step in a random direction."""
        return latents + noise_scale * noise

    def interpolate(self, start: tf.Tensor, end: tf.Tensor, position: float) -> tf.Tensor:
        """On the straight line."""
        return (1 - position) * start + position * end


def log_normal(x: tf.Tensor, mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Log density of a diagonal Gaussian, `[batch, dim]` -> `[batch]`, in nats."""
    squares = tf.square(x - mean) * tf.exp(-log_variance)
    return tf.reduce_sum(-0.5 * (squares + log_variance + math.log(2 * math.pi)), axis=-1)
