"""The one interface of all models: waveforms and what is asked of them in, latents and waveforms out."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from trainer.conditioning import Condition, Guidance
from trainer.config import MODES

# What a batch of clips is drawn as: tensors whose first axis is the clip, nested as the model likes.
Latents = Any


class ElboTerms(NamedTuple):
    """What one batch contributes, in nats, summed over the samples of the example.

    The ELBO is `log_likelihood - sum(kl)`; `objective` is what training minimizes, with its weights and free
    bits, in a unit of the model's choice.
    """

    log_likelihood: tf.Tensor  # [batch] float32
    kl: tf.Tensor  # [batch, levels] float32, one column for each of the model's `levels`
    objective: tf.Tensor  # [batch] float32


class WaveformVAE(tf.keras.Model):
    """A variational autoencoder of `[batch, samples]` float32 waveforms in [-1, 1].

    All that is random comes in as standard normal `noise`, so that the caller decides what repeats.
    """

    conditional = False  # on genre and attributes
    modes: tuple[str, ...] = MODES[:4]  # of making music
    any_length = False  # works on clips of another length than it was trained on
    levels: tuple[str, ...] = ()  # of latents, the slowest first
    smallest_samples: int  # of a clip that the model can work on
    caveat = ""  # what a reader of the report must know about this model's figures

    def noise_size(self, samples: int) -> int:
        """Normal values that `elbo_terms` needs for a clip of `samples` samples."""
        raise NotImplementedError

    def sample_noise_size(self, samples: int) -> int:
        """Normal values that `sample` needs for a clip."""
        raise NotImplementedError

    def decode_noise_size(self, samples: int) -> int:
        """Normal values that `decode` needs for a clip; 0 where decoding is deterministic."""
        return 0

    def values_per_clip(self, samples: int) -> int:
        """Latent values that a clip is kept as, by `encode`."""
        raise NotImplementedError

    def elbo_terms(
        self, audio: tf.Tensor, condition: Condition, noise: tf.Tensor, beta: tf.Tensor
    ) -> ElboTerms:
        """The ELBO's terms with one latent a clip, drawn with `noise` `[batch, noise_size]`."""
        raise NotImplementedError

    def encode(self, audio: tf.Tensor, condition: Condition) -> Latents:
        """The most likely latents of clips."""
        raise NotImplementedError

    def sample(
        self, condition: Condition, samples: int, noise: tf.Tensor, temperature: float, guidance: Guidance
    ) -> Latents:
        """Latents of the prior.

        `temperature` scales its noise: below 1 more typical, above 1 more adventurous. `guidance` scales how
        far the condition moves it.
        """
        raise NotImplementedError

    def decode(self, latents: Latents, condition: Condition, samples: int, noise: tf.Tensor) -> tf.Tensor:
        """Latents -> waveforms `[batch, samples]` in [-1, 1]; `noise` `[batch or 1, decode_noise_size]`."""
        raise NotImplementedError

    def level_values(self, latents: Latents) -> dict[str, tf.Tensor]:
        """Latents by level, each `[n, dim]`: a row for each clip, or for each step of each clip."""
        raise NotImplementedError

    def add_noise(self, latents: Latents, noise_scale: float, noise: tf.Tensor) -> Latents:
        """Latents moved by `noise_scale` standard deviations of the prior; `noise` is as for `sample`."""
        raise NotImplementedError

    def interpolate(self, start: Latents, end: Latents, position: float) -> Latents:
        """Latents on the way from `start` (position 0) to `end` (position 1)."""
        raise NotImplementedError

    def reconstruct(self, audio: tf.Tensor, condition: Condition) -> tf.Tensor:
        """Waveforms through the most likely latents and back; the same noise for every clip."""
        samples = audio.shape[-1]
        noise = tf.random.stateless_normal([1, self.decode_noise_size(samples)], [0, 0])
        return self.decode(self.encode(audio, condition), condition, samples, noise)

    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(int(tf.size(weights)) for weights in self.trainable_variables)

    def make_weights(self, attributes: int) -> None:
        """Creates every variable, by one pass over one silent clip of `attributes` attributes."""
        silence = tf.zeros([1, self.smallest_samples])
        condition = Condition(tf.zeros([1], tf.int32), tf.zeros([1, attributes]))
        self.elbo_terms(
            silence, condition, tf.zeros([1, self.noise_size(silence.shape[-1])]), tf.constant(1.0)
        )
        self.built = True
