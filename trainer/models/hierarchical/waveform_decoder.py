"""The waveform decoder: latents -> waveform. It has two ways, each for what it is best at.

latents with sparse coefficients     envelope -> coefficient model samples the others -> inverse MDCT
latents without                      fine log-magnitudes -> phase retrieval

The first keeps what was encoded; the second makes new music. A clip that is continued takes the first way as far as
it is known, and the second one from there.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from tensorflow.keras import layers

from trainer.config import Config
from trainer.dsp import mdct, phase_retrieval
from trainer.dsp.band_levels import level_distance
from trainer.dsp.frequency_groups import mdct_groups, pool
from trainer.dsp.sizes import Size, one_graph, sizes
from trainer.models.condition_encoder import CONDITION_DIM
from trainer.models.gaussian import elementwise_log_density
from trainer.models.hierarchical import magnitude_decoder, sparse_coefficients
from trainer.models.hierarchical.coefficient_model import TransformCoefficientModel
from trainer.models.hierarchical.discriminator import Discriminator, adversarial_losses
from trainer.models.hierarchical.encoder_decoder import EnvelopeDecoder
from trainer.models.hierarchical.latents import HierarchicalLatents
from trainer.models.hierarchical.magnitude_decoder import MagnitudeDecoder
from trainer.models.hierarchical.noise import DecodeNoise, split_decode_noise

# Of the mean likelihood of magnitudes beside the adversarial losses, so that new clips stay what the latents say.
LIKELIHOOD_WEIGHT = 0.3


class LogLikelihoods(NamedTuple):
    """Log-likelihoods of a clip or part of it, `[batch]` each, in nats.

    All but the first weigh each group of bins as much as one at low frequencies, and so octaves as they are heard: the
    highest one alone has half of the bins.
    """

    coefficients: tf.Tensor  # MDCT coefficients, given those of the frames before
    coefficients_of_groups: tf.Tensor
    envelope: tf.Tensor  # MDCT coefficients under the spectral envelope alone
    magnitudes: tf.Tensor  # log-magnitudes of the STFT


class WaveformDecoder(layers.Layer):
    """p(waveform | latents, condition) and its two ways to synthesize."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.frames_per_step, self.hop_samples = config.frames_per_step, config.hop_samples
        shape = (config.channels, config.frames_per_step, config.hop_samples, config.precision)
        self.envelope = EnvelopeDecoder(*shape)
        self.magnitudes = MagnitudeDecoder(*shape)
        self.discriminator = None
        if config.adversarial_weight:
            self.discriminator = Discriminator(self.magnitudes.bins, config.precision)
        self.coefficient_model = TransformCoefficientModel(
            config.hop_samples, config.coefficient_model_units, config.precision
        )
        self._residual_noise_scale = tf.constant(config.residual_noise_scale, tf.float32)
        self._adversarial_weight = config.adversarial_weight
        self._level_weight = config.level_weight
        self._magnitude_noise_scale = tf.constant(config.magnitude_noise_scale, tf.float32)
        bins = config.hop_samples
        coefficients, limit = tf.TensorSpec([None, None, bins]), tf.TensorSpec([None, None, 1])
        self._sample_coefficients = one_graph(
            self.coefficient_model.sample, *[coefficients] * 2, limit, coefficients, tf.TensorSpec([])
        )
        steps, row = tf.TensorSpec([1, None, config.sequence_latent_dim]), tf.TensorSpec([1, None])
        self._synthesize_clip = one_graph(
            self._synthesize_new_clip,
            *(tf.TensorSpec([1, config.latent_dim]), steps, tf.TensorSpec([1, CONDITION_DIM])),
            *(row, row, tf.TensorSpec([1, None], tf.bool)),
        )

    def log_likelihoods(
        self,
        coefficients: tf.Tensor,
        log_magnitudes: tf.Tensor,
        latents: tuple[tf.Tensor, tf.Tensor],
        embedding: tf.Tensor,
    ) -> LogLikelihoods:
        """Compute log-likelihoods, teacher-forced on the true past.

        Args:
            coefficients: `[batch, frames, bins]`.
            log_magnitudes: `[batch, frames, STFT bins]`.
            latents: Global and sequence latents of these frames.
            embedding: Of the condition, `[batch, CONDITION_DIM]`.
        """
        log_scale = self.envelope(*latents, embedding)  # [batch, frames, bins]
        relative = coefficients * tf.exp(-log_scale)
        mean, log_spread = self.coefficient_model.predict_frames(relative, log_scale)
        errors = tf.square((relative - mean) * tf.exp(-log_spread))
        distribution = self.magnitudes(*latents, embedding)
        magnitudes = magnitude_decoder.log_density_of_groups(log_magnitudes, *distribution)
        density = elementwise_log_density(errors, log_spread + log_scale)
        sections = mdct_groups(density.shape[-1])
        return LogLikelihoods(
            _sum(density),
            _sum(pool(density, sections)),
            _sum(pool(elementwise_log_density(tf.square(relative), log_scale), sections)),
            magnitude_decoder.GROUP_BINS * _sum(magnitudes),
        )

    def magnitude_objective(
        self,
        log_magnitudes: tf.Tensor,
        latents: tuple[tf.Tensor, tf.Tensor],
        embedding: tf.Tensor,
        noise: DecodeNoise,
    ) -> tf.Tensor:
        """Compute what the magnitude decoder minimizes in the last epochs, and its discriminator against it, `[batch]`.

        Args:
            log_magnitudes: `[batch, frames, STFT bins]`.
            latents: Global and sequence latents of these frames.
            embedding: Of the condition, `[batch, CONDITION_DIM]`.
            noise: Of these frames.
        """
        location, log_scale = self.magnitudes(*latents, embedding, noise.coefficients)
        sampled = magnitude_decoder.sample(location, log_scale, noise.magnitudes, self._magnitude_noise_scale)
        log_density = magnitude_decoder.log_density_of_groups(log_magnitudes, location, log_scale)
        objective = -LIKELIHOOD_WEIGHT * tf.reduce_mean(log_density, axis=[1, 2])
        if self.discriminator is not None:
            losses = adversarial_losses(self.discriminator, log_magnitudes, sampled)
            objective += self._adversarial_weight * (losses.discriminator + losses.decoder)
        if self._level_weight:
            objective += self._level_weight * level_distance(
                log_magnitudes, sampled, self.magnitudes.sections
            )
        return objective

    def sample_coefficients(
        self, latents: HierarchicalLatents, embedding: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sample the coefficients that are not kept.

        Args:
            latents: Of the clips.
            embedding: `[batch, CONDITION_DIM]`.
            noise: `[batch or 1, decode_noise_size]`.

        Returns:
            All coefficients and their log-scales, both `[batch, frames, bins]`.
        """
        log_scale = self.envelope(latents.global_latent, latents.sequence_latents, embedding)
        kept = latents.sparse_coefficients * tf.exp(log_scale)
        limit = sparse_coefficients.threshold_of_kept(kept, self.frames_per_step)
        noise = split_decode_noise(noise, *sizes(kept)[1:]).coefficients
        coefficients = self._sample_coefficients(log_scale, kept, limit, noise, self._residual_noise_scale)
        return coefficients, log_scale

    def synthesize(
        self, latents: HierarchicalLatents, embedding: tf.Tensor, samples: Size, noise: tf.Tensor
    ) -> tf.Tensor:
        """Synthesize `[batch, samples]`, each part in its way; the arguments are those of `sample_coefficients`."""
        is_kept = sparse_coefficients.has_kept(latents.sparse_coefficients, self.frames_per_step)
        known = tf.cond(
            tf.reduce_any(is_kept),
            lambda: mdct.synthesise(self.sample_coefficients(latents, embedding, noise)[0], samples),
            lambda: tf.zeros([tf.shape(is_kept)[0], samples]),
        )
        return tf.cond(
            tf.reduce_all(is_kept),
            lambda: known,
            lambda: self._synthesize_new(latents, embedding, noise, known, is_kept),
        )

    def _synthesize_new(
        self,
        latents: HierarchicalLatents,
        embedding: tf.Tensor,
        noise: tf.Tensor,
        known: tf.Tensor,
        is_kept: tf.Tensor,
    ) -> tf.Tensor:
        """Synthesize `[batch, samples]` from magnitudes; as `known`, `[batch, samples]`, in frames that are kept."""
        is_known = mdct.whole_samples(is_kept, self.hop_samples, sizes(known)[1])
        inputs = latents.global_latent, latents.sequence_latents, embedding, noise, known, is_known

        def synthesize_clip(index: tf.Tensor) -> tf.Tensor:
            # Noise may have one row for all clips.
            rows = [tf.minimum(index, tf.shape(values)[0] - 1) for values in inputs]
            return self._synthesize_clip(
                *(values[row][tf.newaxis] for values, row in zip(inputs, rows, strict=True))
            )[0]

        # One at a time: at high rates, the activations of a batch would take more memory than a training step.
        return tf.map_fn(
            synthesize_clip,
            tf.range(tf.shape(is_kept)[0]),
            parallel_iterations=1,
            fn_output_signature=tf.TensorSpec([known.shape[1]]),
        )

    def _synthesize_new_clip(
        self,
        global_latent: tf.Tensor,
        sequence_latents: tf.Tensor,
        embedding: tf.Tensor,
        noise: tf.Tensor,
        known: tf.Tensor,
        is_known: tf.Tensor,
    ) -> tf.Tensor:
        """`_synthesize_new` for one clip; all arguments have one row."""
        frames = sizes(sequence_latents)[1] * self.frames_per_step
        details, of_magnitudes = split_decode_noise(noise, frames, self.hop_samples)
        location, log_scale = self.magnitudes(global_latent, sequence_latents, embedding, details)
        log_magnitudes = magnitude_decoder.sample(
            location, log_scale, of_magnitudes, self._magnitude_noise_scale
        )
        phases = tf.reshape(details, [1, frames * self.hop_samples])
        return phase_retrieval.retrieve(log_magnitudes, phases, known, is_known)


def _sum(log_density: tf.Tensor) -> tf.Tensor:
    """`[batch, frames, bins]` -> `[batch]`."""
    return tf.reduce_sum(log_density, axis=[1, 2])
