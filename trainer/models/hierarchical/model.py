"""The hierarchical VAE of the presets `tiny` and `wave...`, conditional on genre, attributes and key.

    global latent        [latent_dim]                  character of the whole clip  p(global | condition)
    sequence latents     [steps, sequence_latent_dim]  content of each step        p(step | past, global)
    sparse coefficients  [frames, bins], mostly NaN    the strongest, kept exactly  p(frame | past, envelope)

Global and sequence latents decode in two ways. To a spectral envelope, around which a small autoregressive model
samples the coefficients that are not kept: what was encoded. And to fine magnitudes, whose phases are retrieved: what
is new. `docs/model.md` has a diagram and the reasons.
"""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.conditioning import Condition, Guidance, Scale, as_column
from trainer.config import MODES, Config
from trainer.dsp import mdct, stft
from trainer.dsp.sizes import Size, sizes
from trainer.models.base import Capabilities, ElboTerms, Stage, WaveformVAE
from trainer.models.condition_encoder import CONDITION_DIM, ConditionEncoder
from trainer.models.gaussian import to_uniform
from trainer.models.hierarchical import elbo, phrases, sparse_coefficients
from trainer.models.hierarchical.beat_phase import BeatPhase
from trainer.models.hierarchical.elbo import PosteriorSample
from trainer.models.hierarchical.encoder_decoder import Encoder
from trainer.models.hierarchical.latents import HierarchicalLatents
from trainer.models.hierarchical.noise import ElboNoise, LatentShape
from trainer.models.hierarchical.priors import GlobalPrior, SequencePrior
from trainer.models.hierarchical.step_window import StepWindow
from trainer.models.hierarchical.waveform_decoder import WaveformDecoder
from trainer.run_config import DatasetMetadata


class HierarchicalVAE(WaveformVAE):
    """The model of this module. A step is `frames_per_step` MDCT frames of `hop_samples` bins."""

    capabilities = Capabilities(modes=MODES, conditional=True, any_length=True)
    levels = ("global", "sequence")

    def __init__(self, config: Config, metadata: DatasetMetadata) -> None:
        super().__init__()
        self.config = config
        self.smallest_samples = config.hop_samples * config.frames_per_step
        self.beat_phase = BeatPhase(
            metadata, config.hop_samples, config.frames_per_step, config.beat_emphasis
        )
        self.condition_encoder = ConditionEncoder(len(metadata.genres))
        shape = (config.channels, config.frames_per_step)
        self.encoder = Encoder(*shape, config.latent_dim, config.sequence_latent_dim, config.precision)
        self.decoder = WaveformDecoder(config)
        self.global_prior = GlobalPrior(config.latent_dim)
        context_dim = config.latent_dim + CONDITION_DIM
        self.sequence_prior = SequencePrior(
            config.sequence_latent_dim, context_dim, config.prior_units, config.prior_mixtures
        )

    def variables_of(self, stage: Stage) -> list[tf.Variable]:
        """All but the discriminator, then only the priors, the magnitude decoder and the discriminator."""
        priors = self.global_prior.trainable_variables + self.sequence_prior.trainable_variables
        discriminator = self.decoder.discriminator.trainable_variables if self.decoder.discriminator else []
        if stage is Stage.EVALUATION:
            return []
        if stage is Stage.GENERATION:
            return priors + self.decoder.magnitudes.trainable_variables + discriminator
        excluded = {id(variable) for variable in discriminator}
        return [variable for variable in self.trainable_variables if id(variable) not in excluded]

    def encode(self, audio: tf.Tensor, condition: Condition) -> HierarchicalLatents:
        """Return the posteriors' means and the strongest coefficients of each step."""
        coefficients = self._analyse(audio)  # [batch, frames, bins]
        embedding = self.condition_encoder(condition)  # [batch, CONDITION_DIM]
        posteriors = self.encoder(coefficients, embedding)
        global_latent, sequence_latents = (posterior.mean for posterior in posteriors)
        log_scale = self.decoder.envelope(global_latent, sequence_latents, embedding)
        relative = coefficients * tf.exp(-log_scale)
        strong = tf.abs(coefficients) >= self._threshold(coefficients)
        return HierarchicalLatents(global_latent, sequence_latents, tf.where(strong, relative, math.nan))

    def sample(
        self, condition: Condition, samples: Size, noise: tf.Tensor, temperature: Scale, guidance: Guidance
    ) -> HierarchicalLatents:
        """Sample the global latent, then step after step; no coefficient is kept."""
        shape = self._latent_shape(samples)
        embedding = self.condition_encoder(condition, guidance)  # [batch, CONDITION_DIM]
        level_noise = shape.split_prior_noise(noise)
        prior = self.global_prior(embedding)
        scale = self.config.global_noise_scale * as_column(temperature)
        global_latent = prior.sample(scale * level_noise.global_latent)  # [batch, latent_dim]
        beat = self.beat_phase.from_tempo(condition, shape.steps)  # [batch, steps, BEAT_DIM]
        no_steps = tf.zeros([tf.shape(global_latent)[0], 0, shape.sequence_latent_dim])
        step_noise = self._repeat_phrases(level_noise.sequence_latents, condition)
        return self._continue_steps(global_latent, no_steps, embedding, beat, step_noise, temperature)

    def synthesize(
        self,
        latents: HierarchicalLatents,
        condition: Condition,
        samples: Size,
        noise: tf.Tensor,
        guidance: Guidance,
    ) -> tf.Tensor:
        """Synthesize what was encoded from its coefficients, and what is new from fine magnitudes."""
        frames = sizes(latents.sparse_coefficients)[1]
        message = "the latents are of clips of another length than `samples`"
        tf.debugging.assert_equal(frames, self._latent_shape(samples).frames, message=message)
        return self.decoder.synthesize(latents, self.condition_encoder(condition, guidance), samples, noise)

    def elbo_terms(
        self,
        audio: tf.Tensor,
        condition: Condition,
        noise: tf.Tensor,
        beta: tf.Tensor,
        stage: Stage = Stage.EVALUATION,
    ) -> ElboTerms:
        """One sample of the ELBO; `hierarchical.elbo` has the objective of each stage."""
        config, samples = self.config, audio.shape[-1]
        shape, window_steps = self._latent_shape(samples), self._window_steps(samples)
        level_noise = shape.split_elbo_noise(noise, window_steps)
        whole = self._sample_posterior(audio, condition, level_noise)
        part = whole
        if stage is not Stage.EVALUATION and window_steps < shape.steps:
            window = StepWindow.random(level_noise.window, window_steps, shape.steps)
            part = whole.cut(window, config.frames_per_step)
        seen = part if stage is Stage.ALL_WEIGHTS else whole
        priors = self.global_prior, self.sequence_prior
        kl = minimized = elbo.kl_terms(seen, shape.steps, *priors)
        if stage is Stage.GENERATION and config.past_dropout:
            is_seen = to_uniform(level_noise.past) >= config.past_dropout
            minimized = elbo.kl_terms(seen, shape.steps, *priors, is_seen)
        likelihoods = elbo.log_likelihoods(part, shape, samples, self.decoder)
        if stage is Stage.GENERATION:
            objective = elbo.generation_objective(
                config, shape, samples, minimized, beta, part, level_noise.decode, self.decoder
            )
        else:
            objective = elbo.elbo_objective(config, shape, samples, kl, beta, likelihoods)
        return ElboTerms(likelihoods.coefficients, kl, objective)

    def as_sampled(self, latents: HierarchicalLatents) -> HierarchicalLatents:
        """Keep no coefficient, as in new clips."""
        return latents._replace(sparse_coefficients=tf.fill(tf.shape(latents.sparse_coefficients), math.nan))

    def add_noise(
        self, latents: HierarchicalLatents, noise_scale: Scale, noise: tf.Tensor
    ) -> HierarchicalLatents:
        """Move global and sequence latents; sparse coefficients stay as they are, relative to the moved envelope."""
        shape = LatentShape.of_steps(self.config, sizes(latents.sequence_latents)[1])
        return latents.add_noise(shape.split_prior_noise(as_column(noise_scale) * noise))

    def interpolate(
        self, start: HierarchicalLatents, end: HierarchicalLatents, position: Scale
    ) -> HierarchicalLatents:
        """Interpolate global and sequence latents linearly; crossfade the sparse coefficients."""
        return start.interpolate(end, as_column(position))

    def move(self, latents: HierarchicalLatents, offset: tf.Tensor) -> HierarchicalLatents:
        """Move the global latent."""
        return latents._replace(global_latent=latents.global_latent + offset)

    def complete(
        self, latents: HierarchicalLatents, condition: Condition, noise: tf.Tensor
    ) -> HierarchicalLatents:
        """Sample the coefficients that are not kept; the result keeps all."""
        embedding = self.condition_encoder(condition)
        coefficients, log_scale = self.decoder.sample_coefficients(latents, embedding, noise)
        return latents._replace(sparse_coefficients=coefficients * tf.exp(-log_scale))

    def transfer_style(
        self, latents: HierarchicalLatents, source: Condition, target: Condition, guidance: Guidance
    ) -> HierarchicalLatents:
        """Move the global latent from the source's prior to the target's; the other levels stay.

        It keeps its distance from the prior's mean, in standard deviations.
        """
        source_prior = self.global_prior(self.condition_encoder(source))
        target_prior = self.global_prior(self.condition_encoder(target, guidance))
        ratio = tf.exp(0.5 * (target_prior.log_variance - source_prior.log_variance))
        global_latent = target_prior.mean + (latents.global_latent - source_prior.mean) * ratio
        return latents._replace(global_latent=global_latent)

    def extend(
        self,
        audio: tf.Tensor,
        condition: Condition,
        samples: Size,
        noise: tf.Tensor,
        temperature: Scale,
        guidance: Guidance,
    ) -> HierarchicalLatents:
        """Encode `audio` and continue its steps; all its coefficients are kept, except at its very end."""
        coefficients = self._analyse(audio)
        embedding = self.condition_encoder(condition, guidance)
        global_latent, sequence_latents = (
            posterior.mean for posterior in self.encoder(coefficients, embedding)
        )
        # The last step is left out: it overlaps with the padding after the clip.
        hops = sizes(audio)[1] // self.config.hop_samples
        known_steps = tf.maximum(0, (hops - 1) // self.config.frames_per_step)
        shape = self._latent_shape(samples)
        beat = self.beat_phase.from_audio(condition, coefficients, shape.steps)
        step_noise = self._repeat_phrases(shape.split_prior_noise(noise).sequence_latents, condition)
        latents = self._continue_steps(
            global_latent, sequence_latents[:, :known_steps], embedding, beat, step_noise, temperature
        )
        frames = known_steps * self.config.frames_per_step
        log_scale = self.decoder.envelope(latents.global_latent, latents.sequence_latents, embedding)
        known = coefficients[:, :frames] * tf.exp(-log_scale[:, :frames])
        return latents._replace(
            sparse_coefficients=tf.concat([known, latents.sparse_coefficients[:, frames:]], axis=1)
        )

    def level_values(self, latents: HierarchicalLatents) -> dict[str, tf.Tensor]:
        """The two learned levels."""
        sequence = tf.reshape(latents.sequence_latents, [-1, self.config.sequence_latent_dim])
        return {"global": latents.global_latent, "sequence": sequence}

    def values_per_clip(self, samples: int) -> int:
        """Values along time: sequence latents, and two per sparse coefficient, its position and its size."""
        per_step = self.config.sequence_latent_dim + 2 * self.config.sparse_coefficients
        return self._latent_shape(samples).steps * per_step

    def elbo_noise_size(self, samples: int) -> int:
        """Noise of both posteriors, of the choice of the part that is decoded, and of its magnitudes."""
        return self._latent_shape(samples).elbo_noise_size(self._window_steps(samples))

    def sample_noise_size(self, samples: Size) -> Size:
        """Noise of both priors."""
        return self._latent_shape(samples).prior_noise_size

    def decode_noise_size(self, samples: Size) -> Size:
        """Noise of coefficients or phases, and of magnitudes."""
        return self._latent_shape(samples).decode_noise_size

    def _latent_shape(self, samples: Size) -> LatentShape:
        return LatentShape.of_clip(self.config, samples)

    def _analyse(self, audio: tf.Tensor) -> tf.Tensor:
        """`[batch, samples]` -> `[batch, frames, bins]`."""
        _, samples = sizes(audio)
        return mdct.analyse(audio, self.config.hop_samples, self._latent_shape(samples).frames)

    def _threshold(self, coefficients: tf.Tensor) -> tf.Tensor:
        """Magnitude of the smallest coefficient that is kept of each step, `[batch, frames, 1]`."""
        return sparse_coefficients.threshold(
            coefficients, self.config.sparse_coefficients, self.config.frames_per_step
        )

    def _sample_posterior(self, audio: tf.Tensor, condition: Condition, noise: ElboNoise) -> PosteriorSample:
        coefficients = self._analyse(audio)  # [batch, frames, bins]
        embedding = self.condition_encoder(condition)
        global_posterior, sequence_posterior = self.encoder(coefficients, embedding)
        _, frames, bins = sizes(coefficients)
        return PosteriorSample(
            coefficients,
            stft.blocks_of(audio, bins, frames),
            embedding,
            self.beat_phase.from_audio(condition, coefficients),
            global_posterior,
            global_posterior.sample(noise.global_latent),
            sequence_posterior.sample(noise.sequence_latents),
            sequence_posterior.log_density_of_sample(noise.sequence_latents),
        )

    def _window_steps(self, samples: int) -> int:
        """Number of steps of each clip that the decoders see in a training step."""
        all_steps = int(self._latent_shape(samples).steps)
        if not self.config.decoded_samples:
            return all_steps
        return min(max(1, self.config.decoded_samples // self.smallest_samples), all_steps)

    def _repeat_phrases(self, noise: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Let phrases return, by the noise of their steps, `[batch, steps, sequence_latent_dim + 1]`."""
        if not self.config.phrase_beats:
            return noise
        steps_per_beat = self.beat_phase.steps_per_beat(condition)
        sources = phrases.noise_steps(steps_per_beat, self.config.phrase_beats, sizes(noise)[1])
        return tf.gather(noise, sources, batch_dims=1)

    def _continue_steps(
        self,
        global_latent: tf.Tensor,
        known: tf.Tensor,
        embedding: tf.Tensor,
        beat: tf.Tensor,
        noise: tf.Tensor,
        temperature: Scale,
    ) -> HierarchicalLatents:
        """Sample the steps after the `known` ones, as many as `beat` has; keep no coefficient."""
        context = tf.concat([global_latent, embedding], axis=-1)
        latents = self.sequence_prior.sample_in_one_graph(known, context, beat, noise, as_column(temperature))
        shape = LatentShape.of_steps(self.config, sizes(beat)[1])
        latents = tf.ensure_shape(latents, [None, beat.shape[1], shape.sequence_latent_dim])
        nothing_kept = tf.fill([tf.shape(global_latent)[0], shape.frames, shape.bins], math.nan)
        return HierarchicalLatents(global_latent, latents, nothing_kept)
