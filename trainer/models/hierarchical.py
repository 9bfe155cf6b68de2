"""The preset `wave`: a hierarchical VAE, conditional on genre, loudness, brightness and tempo.

    piece   [latent_dim]               what makes a clip this clip        p(piece | condition)
    local   [steps, local_dim]         what happens, step by step         p(local_t | local_<t, piece, ...)
    fine    [steps, 2 * peaks]         the strongest coefficients          p(coefficients_t | past, envelope)

Piece and local latents decode to an envelope, the log-scale of every MDCT coefficient; a small autoregressive
network fills it. `docs/model.md` draws it and gives the reasons.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from trainer.conditioning import NO_GUIDANCE, Condition, Guidance
from trainer.config import MODES, Config
from trainer.dsp import distances, mdct
from trainer.models.base import ElboTerms, WaveformVAE
from trainer.models.coefficient_model import LOG_QUIETEST, TransformCoefficientModel
from trainer.models.condition_encoder import BeatPhase, ConditionEncoder
from trainer.models.encoder_decoder import Decoder, Encoder
from trainer.models.priors import HALF_LOG_2PI, GlobalPrior, SequencePrior
from trainer.run_config import DatasetMetadata

UNLIMITED = 1e9


class HierarchicalLatents(NamedTuple):
    """Of a batch of clips."""

    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, local_dim]
    # [batch, frames, bins]: coefficients relative to the envelope; NaN: left to the texture. An encoded clip
    # has `sparse_coefficients` of them a step, each of which counts as two values: its place and its size.
    sparse_coefficients: tf.Tensor


class HierarchicalVAE(WaveformVAE):
    """See the module. A step is `frames_per_step` MDCT frames of `hop_samples`."""

    conditional = True
    any_length = True
    modes = MODES
    levels = ("global", "sequence")

    def __init__(self, config: Config, metadata: DatasetMetadata) -> None:
        super().__init__()
        self.config = config
        self.smallest_samples = config.hop_samples * config.frames_per_step
        self.sizes = distances.window_sizes(metadata.sample_rate_hz)
        self.beat_phase = BeatPhase(metadata, config.hop_samples, config.frames_per_step)
        self.condition = ConditionEncoder(len(metadata.genres))
        shape = (config.channels, config.frames_per_step)
        self.encoder = Encoder(*shape, config.latent_dim, config.sequence_latent_dim, config.precision)
        self.decoder = Decoder(*shape, config.hop_samples, config.precision)
        self.global_prior = GlobalPrior(config.latent_dim)
        self.sequence_prior = SequencePrior(
            config.sequence_latent_dim, config.prior_units, config.prior_mixtures
        )
        self.coefficient_model = TransformCoefficientModel(
            config.hop_samples, config.coefficient_model_units, config.precision
        )
        self._residual_noise_scale = tf.constant(config.residual_noise_scale, tf.float32)
        self._compiled_sample = tf.function(self.sequence_prior.sample, reduce_retracing=True)
        self._compiled_coefficients = tf.function(self.coefficient_model.sample, reduce_retracing=True)

    def steps(self, samples: int) -> int:
        """Local steps of a clip."""
        return -(-mdct.count_frames(samples, self.config.hop_samples) // self.config.frames_per_step)

    def frames(self, samples: int) -> int:
        """MDCT frames of a clip: whole steps."""
        return self.steps(samples) * self.config.frames_per_step

    def noise_size(self, samples: int) -> int:
        """Of the two posteriors, and of the texture where a spectral term listens to it."""
        texture = self.decode_noise_size(samples) if self.config.spectral_weight else 0
        return self.config.latent_dim + self.steps(samples) * self.config.sequence_latent_dim + texture

    def sample_noise_size(self, samples: int) -> int:
        """Of the piece and, with one more to choose a component, of the steps."""
        return self.config.latent_dim + self.steps(samples) * (self.config.sequence_latent_dim + 1)

    def decode_noise_size(self, samples: int) -> int:
        """One for each coefficient."""
        return self.frames(samples) * self.config.hop_samples

    def values_per_clip(self, samples: int) -> int:
        """Local latent values: those along time. A peak counts twice, for its place and its size."""
        return self.steps(samples) * (self.config.sequence_latent_dim + 2 * self.config.sparse_coefficients)

    def elbo_terms(
        self, audio: tf.Tensor, condition: Condition, noise: tf.Tensor, beta: tf.Tensor
    ) -> ElboTerms:
        """One sample of the ELBO; in the objective also free bits, the envelope's own fit and the spectra."""
        config, samples = self.config, audio.shape[-1]
        coefficients = self._analyse(audio)
        asked = self.condition(condition)
        piece_q, local_q = self.encoder(coefficients, asked)
        steps = (self.steps(samples), config.sequence_latent_dim)
        split = [config.latent_dim, math.prod(steps), noise.shape[-1] - config.latent_dim - math.prod(steps)]
        piece_noise, local_noise, texture_noise = tf.split(noise, split, axis=-1)
        piece = piece_q.sample(piece_noise)
        local_noise = tf.reshape(local_noise, [-1, *steps])
        local = local_q.sample(local_noise)
        kl_piece = kl_of_gaussians(*piece_q, *self.global_prior(asked))
        clock = self.beat_phase.from_audio(condition, coefficients)
        log_q = tf.reduce_sum(-0.5 * (tf.square(local_noise) + local_q.log_variance) - HALF_LOG_2PI, axis=-1)
        log_p = self.sequence_prior.log_density(local, tf.concat([piece, asked], axis=-1), clock)
        kl_local = tf.reduce_sum(log_q - log_p, axis=-1)

        log_scale = self.decoder(piece, local, asked)
        relative = coefficients * tf.exp(-log_scale)
        mean, log_spread = self.coefficient_model.of_all_frames(relative, log_scale)
        errors = tf.square((relative - mean) * tf.exp(-log_spread))
        log_likelihood = _log_normal(errors, log_spread + log_scale) - self._likelihood_correction(samples)
        envelope_alone = _log_normal(tf.square(relative), log_scale)

        # Free bits (Kingma et al. 2016, appendix C.8), so that neither level is switched off early.
        counted = tf.maximum(kl_piece, config.free_bits * config.latent_dim)
        counted += tf.maximum(kl_local, config.free_bits * math.prod(steps))
        objective = beta * counted - log_likelihood - config.spectral_envelope_weight * envelope_alone
        if config.spectral_weight:
            spread = tf.exp(log_scale + log_spread)
            heard = self._teacher_forced_resynthesis(
                coefficients, mean * tf.exp(log_scale), spread, texture_noise, samples
            )
            distance = distances.multi_resolution_distance(audio, heard, self.sizes)
            objective += config.spectral_weight * samples * distance
        return ElboTerms(log_likelihood, tf.stack([kl_piece, kl_local], axis=-1), objective / samples)

    def encode(self, audio: tf.Tensor, condition: Condition) -> HierarchicalLatents:
        """The posteriors' means, and the strongest coefficients of each step."""
        coefficients = self._analyse(audio)
        asked = self.condition(condition)
        piece, local = (posterior.mean for posterior in self.encoder(coefficients, asked))
        relative = coefficients * tf.exp(-self.decoder(piece, local, asked))
        strong = tf.abs(coefficients) >= self._limit(coefficients)
        return HierarchicalLatents(piece, local, tf.where(strong, relative, math.nan))

    def sample(
        self, condition: Condition, samples: int, noise: tf.Tensor, temperature: float, guidance: Guidance
    ) -> HierarchicalLatents:
        """Piece, then step after step; the fine level is left to the texture."""
        asked = self.condition(condition, guidance)
        noise = self._split_sample_noise(noise, samples)
        mean, log_variance = self.global_prior(asked)
        piece = mean + temperature * noise[0] * tf.exp(0.5 * log_variance)
        clock = self.beat_phase.from_tempo(condition, self.steps(samples))
        nothing = tf.zeros([tf.shape(piece)[0], 0, self.config.sequence_latent_dim])
        return self._sample_steps(piece, nothing, asked, clock, noise[1], temperature)

    def extend(
        self,
        audio: tf.Tensor,
        condition: Condition,
        samples: int,
        noise: tf.Tensor,
        temperature: float,
        guidance: Guidance,
    ) -> HierarchicalLatents:
        """Latents of `samples` samples that begin with `audio` as it is."""
        coefficients = self._analyse(audio)
        asked = self.condition(condition, guidance)
        piece, local = (posterior.mean for posterior in self.encoder(coefficients, asked))
        # The last step hears the silence that was put behind the beginning.
        whole_steps = max(0, (audio.shape[-1] // self.config.hop_samples - 1) // self.config.frames_per_step)
        clock = self.beat_phase.from_audio(condition, coefficients, self.steps(samples))
        step_noise = self._split_sample_noise(noise, samples)[1]
        drawn = self._sample_steps(piece, local[:, :whole_steps], asked, clock, step_noise, temperature)
        frames = whole_steps * self.config.frames_per_step
        log_scale = self.decoder(drawn.global_latent, drawn.sequence_latents, asked)
        known = coefficients[:, :frames] * tf.exp(-log_scale[:, :frames])
        return drawn._replace(
            sparse_coefficients=tf.concat([known, drawn.sparse_coefficients[:, frames:]], axis=1)
        )

    def transfer_style(
        self, latents: HierarchicalLatents, source: Condition, target: Condition, guidance: Guidance
    ) -> HierarchicalLatents:
        """The same steps and details in another kind of piece.

        The piece keeps its place among those of its kind: as many standard deviations from the mean.
        """
        source_mean, source_log_variance = self.global_prior(self.condition(source))
        target_mean, target_log_variance = self.global_prior(self.condition(target, guidance))
        ratio = tf.exp(0.5 * (target_log_variance - source_log_variance))
        return latents._replace(global_latent=target_mean + (latents.global_latent - source_mean) * ratio)

    def decode(
        self,
        latents: HierarchicalLatents,
        condition: Condition,
        samples: int,
        noise: tf.Tensor,
        guidance: Guidance = NO_GUIDANCE,
    ) -> tf.Tensor:
        """Envelope, then what fills it, then the waveform."""
        filled, _ = self._sample_coefficients(latents, self.condition(condition, guidance), noise)
        return tf.clip_by_value(mdct.synthesise(filled, samples), -1.0, 1.0)

    def complete(
        self, latents: HierarchicalLatents, condition: Condition, noise: tf.Tensor
    ) -> HierarchicalLatents:
        """The same clip with nothing of its fine level left open."""
        filled, log_scale = self._sample_coefficients(latents, self.condition(condition), noise)
        return latents._replace(sparse_coefficients=filled * tf.exp(-log_scale))

    def level_values(self, latents: HierarchicalLatents) -> dict[str, tf.Tensor]:
        """Of the two levels that are learned."""
        return {
            "global": latents.global_latent,
            "sequence": tf.reshape(latents.sequence_latents, [-1, self.config.sequence_latent_dim]),
        }

    def add_noise(
        self, latents: HierarchicalLatents, noise_scale: float, noise: tf.Tensor
    ) -> HierarchicalLatents:
        """Piece and steps move; the strongest coefficients stay, in units of the envelope that moved."""
        steps, sequence_latent_dim = latents.sequence_latents.shape[1:]
        piece, local = tf.split(noise, [self.config.latent_dim, steps * (sequence_latent_dim + 1)], axis=-1)
        local = tf.reshape(local, [-1, steps, sequence_latent_dim + 1])[..., :-1]
        return latents._replace(
            global_latent=latents.global_latent + noise_scale * piece,
            sequence_latents=latents.sequence_latents + noise_scale * local,
        )

    def interpolate(
        self, start: HierarchicalLatents, end: HierarchicalLatents, position: float
    ) -> HierarchicalLatents:
        """Piece and steps on the straight line; the details fade into each other at constant power."""
        piece, local = (
            (1 - position) * getattr(start, name) + position * getattr(end, name)
            for name in ("global_latent", "sequence_latents")
        )
        angle = 0.5 * math.pi * position
        parts = [
            (start.sparse_coefficients, math.cos(angle) if position < 1 else 0.0),
            (end.sparse_coefficients, math.sin(angle) if position < 1 else 1.0),
        ]
        heard = [tf.where(tf.math.is_nan(fine), 0.0, fine) * weight for fine, weight in parts]
        open_ = [tf.math.is_nan(fine) if weight else tf.ones_like(fine, tf.bool) for fine, weight in parts]
        return HierarchicalLatents(piece, local, tf.where(open_[0] & open_[1], math.nan, heard[0] + heard[1]))

    def _analyse(self, audio: tf.Tensor) -> tf.Tensor:
        return mdct.analyse(audio, self.config.hop_samples, self.frames(audio.shape[-1]))

    def _limit(self, coefficients: tf.Tensor) -> tf.Tensor:
        """Size of the smallest coefficient that is kept of each step, `[batch, frames, 1]`."""
        span = self.config.frames_per_step
        frames, bins = coefficients.shape[1:]
        steps = tf.reshape(tf.abs(coefficients), [-1, frames // span, span * bins])
        smallest = tf.math.top_k(steps, self.config.sparse_coefficients).values[..., -1:]
        return tf.repeat(smallest, span, axis=1)

    def _sample_coefficients(
        self, latents: HierarchicalLatents, asked: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Coefficients and log-scales, both `[batch, frames, bins]`."""
        log_scale = self.decoder(latents.global_latent, latents.sequence_latents, asked)
        known = latents.sparse_coefficients * tf.exp(log_scale)
        span, (frames, bins) = self.config.frames_per_step, known.shape[1:]
        # What was not kept is smaller than the smallest that was.
        sizes = tf.where(tf.math.is_nan(known), UNLIMITED, tf.abs(known))
        limit = tf.reduce_min(tf.reshape(sizes, [-1, frames // span, span * bins]), axis=-1)
        limit = tf.repeat(limit, span, axis=1)[..., tf.newaxis]
        noise = tf.reshape(noise, [-1, frames, bins])
        return self._compiled_coefficients(
            log_scale, known, limit, noise, self._residual_noise_scale
        ), log_scale

    def _teacher_forced_resynthesis(
        self, coefficients: tf.Tensor, mean: tf.Tensor, spread: tf.Tensor, noise: tf.Tensor, samples: int
    ) -> tf.Tensor:
        """What `decode` would make of the clip if it had predicted every frame from the true ones before."""
        limit = self._limit(coefficients)
        noise = tf.reshape(noise, [-1, *coefficients.shape[1:]])
        drawn = tf.clip_by_value(
            mean + tf.minimum(spread, self._residual_noise_scale * limit) * noise, -limit, limit
        )
        return mdct.synthesise(tf.where(tf.abs(coefficients) >= limit, coefficients, drawn), samples)

    def _sample_steps(
        self,
        piece: tf.Tensor,
        known: tf.Tensor,
        asked: tf.Tensor,
        clock: tf.Tensor,
        noise: tf.Tensor,
        temperature: float,
    ) -> HierarchicalLatents:
        context = tf.concat([piece, asked], axis=-1)
        local = self._compiled_sample(known, context, clock, noise, tf.constant(temperature, tf.float32))
        local = tf.ensure_shape(local, [None, clock.shape[1], self.config.sequence_latent_dim])
        frames = clock.shape[1] * self.config.frames_per_step
        return HierarchicalLatents(
            piece, local, tf.fill([tf.shape(piece)[0], frames, self.config.hop_samples], math.nan)
        )

    def _split_sample_noise(self, noise: tf.Tensor, samples: int) -> tuple[tf.Tensor, tf.Tensor]:
        steps, sequence_latent_dim = self.steps(samples), self.config.sequence_latent_dim
        piece, local = tf.split(noise, [self.config.latent_dim, steps * (sequence_latent_dim + 1)], axis=-1)
        return piece, tf.reshape(local, [-1, steps, sequence_latent_dim + 1])

    def _likelihood_correction(self, samples: int) -> float:
        """The most by which a density of more coefficients than samples can exceed one of the samples.

        A coefficient that the samples do not need is 0, and its density there is at most that of the smallest
        scale. Taking all of it off leaves a lower bound of the log-likelihood, for ELBOs that compare.
        """
        surplus = self.decode_noise_size(samples) - samples
        return surplus * (-LOG_QUIETEST - HALF_LOG_2PI)


def kl_of_gaussians(
    mean: tf.Tensor, log_variance: tf.Tensor, prior_mean: tf.Tensor, prior_log_variance: tf.Tensor
) -> tf.Tensor:
    """KL of diagonal Gaussians in nats, `[batch, dim]` four times -> `[batch]` (Kingma & Welling 2014, B)."""
    ratio = log_variance - prior_log_variance
    distance = tf.square(mean - prior_mean) * tf.exp(-prior_log_variance)
    return 0.5 * tf.reduce_sum(tf.exp(ratio) + distance - 1.0 - ratio, axis=-1)


def _log_normal(squares: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Sum of normal log-densities from squared standard distances, `[batch, frames, bins]` -> `[batch]`."""
    return tf.reduce_sum(-0.5 * squares - log_scale - HALF_LOG_2PI, axis=[1, 2])
