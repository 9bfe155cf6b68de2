"""The one interface of all models: waveforms and genres in, latents, terms of the ELBO and waveforms out."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents; both `[batch, *latent_shape]` float32."""

    mean: tf.Tensor
    log_variance: tf.Tensor


class Terms(NamedTuple):
    """What one batch contributes, each `[batch]` float32, in nats, summed over the samples of the example.

    The ELBO is `log_likelihood - kl`; `objective` is what training minimizes, with its weights and free bits.
    """

    log_likelihood: tf.Tensor
    kl: tf.Tensor
    objective: tf.Tensor


class WaveformVAE(tf.keras.Model):
    """A variational autoencoder of `[batch, samples]` float32 waveforms in [-1, 1].

    `genre` is `[batch]` int32, an index into the dataset's genres or -1 for one that is left open; a model
    that is not conditional ignores it.
    """

    conditional = False  # on genre
    caveat = ""  # what a reader of the report must know about this model's figures

    def latent_shape(self, samples: int) -> tuple[int, ...]:
        """Shape of the latent of one clip of `samples` samples, without the batch."""
        raise NotImplementedError

    def encode(self, audio: tf.Tensor, genre: tf.Tensor) -> Posterior:
        """q(z | x)."""
        raise NotImplementedError

    def reparameterize(self, posterior: Posterior, noise: tf.Tensor) -> tf.Tensor:
        """A latent of the posterior from standard normal `noise` (Kingma & Welling 2014, section 2.4)."""
        return posterior.mean + noise * tf.exp(0.5 * posterior.log_variance)

    def decode(self, latent: tf.Tensor, genre: tf.Tensor, samples: int) -> tf.Tensor:
        """The parameters of p(x | z) that vary with the latent, `[batch, samples]`."""
        raise NotImplementedError

    def to_audio(self, decoded: tf.Tensor) -> tf.Tensor:
        """What `decode` returned -> what is to be heard, in [-1, 1]."""
        raise NotImplementedError

    def terms(self, audio: tf.Tensor, genre: tf.Tensor, noise: tf.Tensor, beta: tf.Tensor) -> Terms:
        """The ELBO's terms with one latent a clip, drawn with `noise` `[batch, *latent_shape]`."""
        raise NotImplementedError

    def sample(self, latent: tf.Tensor, genre: tf.Tensor, samples: int) -> tf.Tensor:
        """Latents -> waveforms `[batch, samples]` in [-1, 1]."""
        return self.to_audio(self.decode(latent, genre, samples))

    def reconstruct(self, audio: tf.Tensor, genre: tf.Tensor) -> tf.Tensor:
        """Waveforms through the posterior's mean and back."""
        return self.sample(self.encode(audio, genre).mean, genre, audio.shape[-1])

    def make_weights(self) -> None:
        """Creates every variable, by one pass over one silent clip."""
        silence = tf.zeros([1, self.clip_samples])
        self.reconstruct(silence, tf.zeros([1], tf.int32))
        self.built = True
