"""The reference notebook's CVAE, unchanged: the baseline that other models are compared with."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.keras import layers

from trainer.conditioning import Condition, Guidance, Scale, as_column
from trainer.config import Config
from trainer.dsp.sizes import Size
from trainer.models.base import Capabilities, ElboTerms, Stage, WaveformVAE
from trainer.models.gaussian import DiagonalGaussian
from trainer.models.layers import Resnet1DBlock, policy
from trainer.run_config import DatasetMetadata


class ReferenceCVAE(WaveformVAE):
    """A clip is a single time step of `clip_samples` channels, so no layer works along time.

    Trainable parameters at 90,001 samples and a latent of 2: 12,120,133.
    """

    capabilities = Capabilities(
        modes=("prior", "variation", "reconstruct", "interpolate"), conditional=False, any_length=False
    )
    levels = ("clip",)
    caveat = (
        "This model scores a waveform in [-1, 1] with a Bernoulli likelihood, which is defined for values in "
        "[0, 1]. For a negative sample its cross-entropy has no lower bound: lowering the logit always "
        "raises the ELBO. The ELBO below therefore keeps improving while the reconstruction gets worse, and "
        "it cannot be compared with another model's. Compare by SNR, where silence scores 0 dB, and by "
        "listening."
    )

    def __init__(self, config: Config, metadata: DatasetMetadata) -> None:
        super().__init__()
        self.smallest_samples = metadata.clip_samples
        self.latent_dim = config.latent_dim
        dtype = policy(config.precision)
        self.encoder = _encoder(config.latent_dim, dtype)
        self.decoder = _decoder(config.latent_dim, metadata.clip_samples, dtype)

    def encode(self, audio: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Return the posterior's mean, `[batch, latent_dim]`."""
        return self.posterior(audio).mean

    def sample(
        self, condition: Condition, samples: Size, noise: tf.Tensor, temperature: Scale, guidance: Guidance
    ) -> tf.Tensor:
        """Sample from N(0, temperature squared)."""
        return as_column(temperature) * noise

    def synthesize(
        self,
        latents: tf.Tensor,
        condition: Condition,
        samples: Size,
        noise: tf.Tensor,
        guidance: Guidance,
    ) -> tf.Tensor:
        """Decode to what the notebook plays, the sigmoid of the logits, in [0, 1]; whole clips only."""
        return tf.sigmoid(self.logits(latents))[:, :samples]

    def elbo_terms(
        self,
        audio: tf.Tensor,
        condition: Condition,
        noise: tf.Tensor,
        beta: tf.Tensor,
        stage: Stage = Stage.EVALUATION,
    ) -> ElboTerms:
        """Bernoulli log-likelihood and a one-sample estimate of the KL, as in the notebook."""
        posterior = self.posterior(audio)
        latent = posterior.sample(noise)
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=audio, logits=self.logits(latent))
        log_likelihood = -tf.reduce_sum(cross_entropy, axis=-1)
        prior = DiagonalGaussian(tf.zeros_like(latent), tf.zeros_like(latent))
        log_p = prior.log_density(latent)
        kl = posterior.log_density(latent) - log_p
        return ElboTerms(log_likelihood, kl[:, tf.newaxis], beta * kl - log_likelihood)

    def posterior(self, audio: tf.Tensor) -> DiagonalGaussian:
        """q(z | x) over `[batch, latent_dim]`."""
        mean, log_variance = tf.split(self.encoder(audio[:, tf.newaxis, :]), 2, axis=1)
        return DiagonalGaussian(mean, log_variance)

    def logits(self, latents: tf.Tensor) -> tf.Tensor:
        """`[batch, latent_dim]` -> `[batch, clip_samples]`."""
        return self.decoder(latents)[:, 0, :]

    def add_noise(self, latents: tf.Tensor, noise_scale: Scale, noise: tf.Tensor) -> tf.Tensor:
        """Add scaled noise; the prior's standard deviation is 1."""
        return latents + as_column(noise_scale) * noise

    def interpolate(self, start: tf.Tensor, end: tf.Tensor, position: Scale) -> tf.Tensor:
        """Interpolate linearly."""
        position = as_column(position)
        return (1 - position) * start + position * end

    def move(self, latents: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        """Move the latent vector."""
        return latents + offset

    def level_values(self, latents: tf.Tensor) -> dict[str, tf.Tensor]:
        """The latent vectors, as the only level."""
        return {"clip": latents}

    def values_per_clip(self, samples: int) -> int:
        """One latent vector."""
        return self.latent_dim

    def elbo_noise_size(self, samples: int) -> int:
        """One latent vector."""
        return self.latent_dim

    def sample_noise_size(self, samples: Size) -> Size:
        """One latent vector."""
        return self.latent_dim


def _encoder(latent_dim: int, dtype: tf.keras.mixed_precision.Policy) -> tf.keras.Sequential:
    """`[batch, 1, clip_samples]` -> mean and log-variance side by side, `[batch, 2 * latent_dim]`."""
    return tf.keras.Sequential(
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
            layers.Dense(2 * latent_dim),
        ]
    )


def _decoder(
    latent_dim: int, clip_samples: int, dtype: tf.keras.mixed_precision.Policy
) -> tf.keras.Sequential:
    """`[batch, latent_dim]` -> logits `[batch, 1, clip_samples]`."""
    return tf.keras.Sequential(
        [
            layers.Reshape((1, latent_dim)),
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
