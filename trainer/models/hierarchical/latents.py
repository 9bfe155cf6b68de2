"""The latents of the hierarchical model, and arithmetic on them that needs no network."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from trainer.models.hierarchical.noise import PriorNoise
from trainer.models.hierarchical.sparse_coefficients import crossfade


class HierarchicalLatents(NamedTuple):
    """Latents of a batch of clips."""

    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, sequence_latent_dim]
    # [batch, frames, bins], relative to the spectral envelope; NaN: left to the coefficient model. An encoded
    # clip keeps `Config.sparse_coefficients` of them per step.
    sparse_coefficients: tf.Tensor

    def add_noise(self, noise: PriorNoise) -> HierarchicalLatents:
        """Move global and sequence latents by the noise."""
        return self._replace(
            global_latent=self.global_latent + noise.global_latent,
            sequence_latents=self.sequence_latents + noise.sequence_latents[..., :-1],
        )

    def interpolate(self, end: HierarchicalLatents, position: tf.Tensor) -> HierarchicalLatents:
        """Latents between these (position 0) and `end` (position 1); the position is `[batch or 1, 1]`."""
        of_step = position[..., tf.newaxis]
        return HierarchicalLatents(
            (1 - position) * self.global_latent + position * end.global_latent,
            (1 - of_step) * self.sequence_latents + of_step * end.sequence_latents,
            crossfade(self.sparse_coefficients, end.sparse_coefficients, of_step),
        )
