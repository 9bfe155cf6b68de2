"""The interface of all models: `encode`, `sample`, `decode` and the terms of the ELBO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.conditioning import NO_GUIDANCE, Condition, Guidance, Scale
from trainer.dsp.sizes import Size, sizes

# The latents of a batch of clips: tensors whose first axis is the clip, nested as the model defines.
Latents = Any


class ElboTerms(NamedTuple):
    """The terms of one batch. The ELBO of a clip, in nats per clip, is `log_likelihood - sum(kl)`."""

    log_likelihood: tf.Tensor  # [batch] float32, nats per clip: summed over its samples
    kl: tf.Tensor  # [batch, levels] float32, nats per clip; a column for each of the model's `levels`
    # [batch] float32: what training minimizes, the negative ELBO with beta, free bits and auxiliary terms.
    # The hierarchical model divides it by the samples of a clip: nats per sample. The reference model, like
    # its notebook, does not: nats per clip. Their objectives and learning rates cannot be compared.
    objective: tf.Tensor


class Stage(Enum):
    """What the terms of the ELBO are for: some may be estimated from a random part of each clip."""

    EVALUATION = "evaluation"  # none is
    ALL_WEIGHTS = "training of all weights"  # all may be
    GENERATION = "training of what makes new clips"  # the likelihood may be; the priors see whole clips


@dataclass(frozen=True)
class Capabilities:
    """What a model can do beyond encoding, sampling and decoding clips of the length it was trained on."""

    modes: tuple[str, ...]  # of generation, a subset of `trainer.config.MODES`
    conditional: bool  # on genre, attributes and key; otherwise conditions and guidance are ignored
    any_length: bool  # supports clips of another length than those of the dataset


class WaveformVAE(tf.keras.Model):
    """A variational autoencoder of waveforms `[batch, samples]`, float32 in [-1, 1].

    All randomness enters as standard normal `noise`, so that the caller controls reproducibility. The noise
    of a method has as many values per clip as its `*_noise_size` says.
    """

    capabilities: Capabilities
    levels: tuple[str, ...]  # names of the latent levels, the slowest first
    smallest_samples: int  # length of the shortest clip that the model supports
    caveat = ""  # warning about this model's metrics, for readers of the report

    def encode(self, audio: tf.Tensor, condition: Condition) -> Latents:
        """Return the most likely latents of `audio` `[batch, samples]`."""
        raise NotImplementedError

    def sample(
        self, condition: Condition, samples: Size, noise: tf.Tensor, temperature: Scale, guidance: Guidance
    ) -> Latents:
        """Sample latents from the prior.

        Args:
            condition: Of each clip.
            samples: Length of the clips.
            noise: `[batch, sample_noise_size(samples)]`.
            temperature: Scale of the noise: below 1 samples are more typical, above 1 more varied.
            guidance: Scale of the condition.
        """
        raise NotImplementedError

    def decode(
        self,
        latents: Latents,
        condition: Condition,
        samples: Size,
        noise: tf.Tensor,
        guidance: Guidance = NO_GUIDANCE,
    ) -> tf.Tensor:
        """Decode latents to waveforms `[batch, samples]`, clipped to [-1, 1].

        `noise` is `[batch or 1, decode_noise_size(samples)]`; one row is used for all clips.
        """
        return tf.clip_by_value(self.synthesize(latents, condition, samples, noise, guidance), -1.0, 1.0)

    def synthesize(
        self, latents: Latents, condition: Condition, samples: Size, noise: tf.Tensor, guidance: Guidance
    ) -> tf.Tensor:
        """Decode as `decode` does, without clipping: guidance may give levels far beyond full scale."""
        raise NotImplementedError

    def elbo_terms(
        self,
        audio: tf.Tensor,
        condition: Condition,
        noise: tf.Tensor,
        beta: tf.Tensor,
        stage: Stage = Stage.EVALUATION,
    ) -> ElboTerms:
        """Estimate the ELBO's terms with one latent per clip.

        Args:
            audio: `[batch, samples]`.
            condition: Of each clip.
            noise: `[batch, elbo_noise_size(samples)]`.
            beta: Scalar, the weight of the KL terms in the objective.
            stage: What may be estimated from a random part of each clip.
        """
        raise NotImplementedError

    def reconstruct(self, audio: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Encode and decode `[batch, samples]`, with the same noise for every clip."""
        _, samples = sizes(audio)
        noise = tf.random.stateless_normal([1, self.decode_noise_size(samples)], [0, 0])
        return self.decode(self.encode(audio, condition), condition, samples, noise)

    def as_sampled(self, latents: Latents) -> Latents:
        """Drop what `sample` never gives, so that encoded latents are decoded exactly as sampled ones are."""
        return latents

    def add_noise(self, latents: Latents, noise_scale: Scale, noise: tf.Tensor) -> Latents:
        """Add `[batch, sample_noise_size]` noise of `noise_scale` standard deviations of the prior."""
        raise NotImplementedError

    def interpolate(self, start: Latents, end: Latents, position: Scale) -> Latents:
        """Interpolate between latents, from `start` (position 0) to `end` (position 1)."""
        raise NotImplementedError

    def move(self, latents: Latents, offset: tf.Tensor) -> Latents:
        """Add `offset`, `[values]`, to the latents of the slowest level."""
        raise NotImplementedError

    def complete(self, latents: Latents, condition: Condition, noise: tf.Tensor) -> Latents:
        """Sample in advance, from the same noise, the values that `decode` would sample.

        Models of the mode "transfer" only.
        """
        raise NotImplementedError

    def transfer_style(
        self, latents: Latents, source: Condition, target: Condition, guidance: Guidance
    ) -> Latents:
        """Transfer latents of clips from one condition to another. Models of the mode "transfer" only."""
        raise NotImplementedError

    def extend(
        self,
        audio: tf.Tensor,
        condition: Condition,
        samples: Size,
        noise: tf.Tensor,
        temperature: Scale,
        guidance: Guidance,
    ) -> Latents:
        """Sample latents of `samples` samples that begin with `audio`. Models of the mode "continue" only.

        The other arguments are those of `sample`.
        """
        raise NotImplementedError

    def level_values(self, latents: Latents) -> dict[str, tf.Tensor]:
        """Latents by level, each `[n, dim]`: one row per clip, or one per step of each clip."""
        raise NotImplementedError

    def values_per_clip(self, samples: int) -> int:
        """Latent values that `encode` keeps of a clip; a sparse value counts twice, for position and size."""
        raise NotImplementedError

    def elbo_noise_size(self, samples: int) -> int:
        """Noise values per clip that `elbo_terms` takes."""
        raise NotImplementedError

    def sample_noise_size(self, samples: Size) -> Size:
        """Noise values per clip that `sample`, `extend` and `add_noise` take."""
        raise NotImplementedError

    def decode_noise_size(self, samples: Size) -> Size:
        """Noise values per clip that `decode` and `complete` take; 0 where decoding is deterministic."""
        return 0

    def variables_of(self, stage: Stage) -> list[tf.Variable]:
        """Trainable variables that learn in a stage: all in the first; none in the second, unless overridden.

        The terms of the ELBO of the stage `GENERATION` must use every variable of the model.
        """
        return self.trainable_variables if stage is Stage.ALL_WEIGHTS else []

    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(int(tf.size(weights)) for weights in self.trainable_variables)

    def make_weights(self, attributes: int) -> None:
        """Create all variables by a pass over one silent clip with this number of `attributes`."""
        silence = tf.zeros([1, self.smallest_samples])
        condition = Condition(tf.zeros([1], tf.int32), tf.zeros([1, attributes]), tf.zeros([1], tf.int32))
        noise = tf.zeros([1, self.elbo_noise_size(self.smallest_samples)])
        self.elbo_terms(silence, condition, noise, tf.constant(1.0), Stage.GENERATION)  # which uses all
        self.built = True
