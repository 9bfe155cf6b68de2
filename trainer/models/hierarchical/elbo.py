"""The terms of the ELBO of the hierarchical model, from one sample of the posterior, and the stages' objectives."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from trainer.config import Config
from trainer.dsp.stft import OVERLAP, log_magnitudes_of_blocks
from trainer.models.gaussian import DiagonalGaussian, kl_divergence
from trainer.models.hierarchical.coefficient_model import likelihood_correction
from trainer.models.hierarchical.noise import DecodeNoise, LatentShape
from trainer.models.hierarchical.priors import GlobalPrior, SequencePrior
from trainer.models.hierarchical.step_window import StepWindow
from trainer.models.hierarchical.waveform_decoder import LogLikelihoods, WaveformDecoder


class PosteriorSample(NamedTuple):
    """A batch of clips, their condition and one sample of their posterior."""

    coefficients: tf.Tensor  # [batch, frames, bins]
    audio_blocks: tf.Tensor  # that frames of the STFT consist of, [batch, frames + OVERLAP - 1, bins]
    embedding: tf.Tensor  # of the condition, [batch, CONDITION_DIM]
    beat: tf.Tensor  # [batch, steps, BEAT_DIM]
    global_posterior: DiagonalGaussian  # over [batch, latent_dim]
    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, sequence_latent_dim]
    log_q: tf.Tensor  # of the sequence latents, [batch, steps]

    def cut(self, window: StepWindow, frames_per_step: int) -> PosteriorSample:
        """The part in a window of steps."""
        return self._replace(
            coefficients=window.cut(self.coefficients, frames_per_step),
            audio_blocks=window.cut(self.audio_blocks, frames_per_step, more=OVERLAP - 1),
            beat=window.cut(self.beat),
            sequence_latents=window.cut(self.sequence_latents),
            log_q=window.cut(self.log_q[..., tf.newaxis])[..., 0],
        )

    @property
    def log_magnitudes(self) -> tf.Tensor:
        """Of the STFT, `[batch, frames, STFT bins]`."""
        return log_magnitudes_of_blocks(self.audio_blocks)

    @property
    def latents(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Of both levels."""
        return self.global_latent, self.sequence_latents


def kl_terms(
    part: PosteriorSample,
    steps: int,
    global_prior: GlobalPrior,
    sequence_prior: SequencePrior,
    is_seen: tf.Tensor | None = None,
) -> tf.Tensor:
    """Estimate the KL terms of both levels and all `steps` steps from a part of them, `[batch, 2]` in nats.

    `is_seen` `[batch, steps of the part]` tells which steps the prior is given when it predicts later ones; None: all.
    """
    context = tf.concat([part.global_latent, part.embedding], axis=-1)
    log_p = sequence_prior.log_density(part.sequence_latents, context, part.beat, is_seen)
    ratio = steps / part.sequence_latents.shape[1]
    kl_sequence = ratio * tf.reduce_sum(part.log_q - log_p, axis=-1)
    return tf.stack(
        [kl_divergence(part.global_posterior, global_prior(part.embedding)), kl_sequence], axis=-1
    )


def log_likelihoods(
    part: PosteriorSample, shape: LatentShape, samples: int, decoder: WaveformDecoder
) -> LogLikelihoods:
    """Estimate log-likelihoods of clips of `samples` samples from a part of their steps, `[batch]` in nats."""
    values = decoder.log_likelihoods(part.coefficients, part.log_magnitudes, part.latents, part.embedding)
    steps = part.sequence_latents.shape[1]
    if steps == shape.steps:
        correction = likelihood_correction(shape.coefficients, samples)
        return values._replace(
            coefficients=values.coefficients - correction,
            coefficients_of_groups=values.coefficients_of_groups - correction,
        )
    ratio = samples / (steps * shape.frames_per_step * shape.bins)
    return LogLikelihoods(*(ratio * value for value in values))


def elbo_objective(
    config: Config,
    shape: LatentShape,
    samples: int,
    kl: tf.Tensor,
    beta: tf.Tensor,
    likelihoods: LogLikelihoods,
) -> tf.Tensor:
    """Weigh the terms of the ELBO, `[batch]` in nats per sample."""
    likelihood = likelihoods.coefficients_of_groups
    likelihood += config.spectral_envelope_weight * likelihoods.envelope
    likelihood += config.magnitude_weight * likelihoods.magnitudes
    return (beta * _with_free_bits(config, shape, kl) - likelihood) / samples


def generation_objective(
    config: Config,
    shape: LatentShape,
    samples: int,
    kl: tf.Tensor,
    beta: tf.Tensor,
    part: PosteriorSample,
    noise: DecodeNoise,
    decoder: WaveformDecoder,
) -> tf.Tensor:
    """Weigh the KL terms and what the magnitude decoder minimizes, `[batch]`."""
    objective = decoder.magnitude_objective(part.log_magnitudes, part.latents, part.embedding, noise)
    return beta * _with_free_bits(config, shape, kl) / samples + objective


def _with_free_bits(config: Config, shape: LatentShape, kl: tf.Tensor) -> tf.Tensor:
    """Sum the KL terms of both levels, `[batch, 2]` -> `[batch]`, so that neither is switched off early.

    Free bits: Kingma et al. 2016, appendix C.8.
    """
    values = [shape.latent_dim, shape.steps * shape.sequence_latent_dim]
    return tf.reduce_sum(tf.maximum(kl, config.free_bits * tf.constant(values, tf.float32)), axis=-1)
