"""Sums over examples and over parts of a batch, and the loss that is summed over replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import tensorflow as tf

from trainer.data.input_pipeline import Batch
from trainer.models.base import ElboTerms

T = TypeVar("T")


class Totals(NamedTuple):
    """Sums over examples, from which the metrics of an epoch are computed; float64 scalars."""

    log_likelihood: tf.Tensor  # nats
    kl: tf.Tensor  # nats, of all levels of latents
    snr_db: tf.Tensor  # of reconstructions; 0 in training steps
    examples: tf.Tensor  # number of examples, without padding
    samples: tf.Tensor  # number of their audio samples

    def plus(self, other: Totals) -> Totals:
        """Add two totals."""
        return Totals(*map(tf.add, self, other))

    def nats_per_clip(self, clip_samples: int) -> dict[str, float]:
        """Return ELBO, log-likelihood and KL in nats per clip; a crop counts as a fraction of a clip."""
        clips = float(self.samples) / clip_samples
        log_likelihood, kl = float(self.log_likelihood) / clips, float(self.kl) / clips
        return {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}


def replica_loss(elbo_terms: ElboTerms, weight: tf.Tensor) -> tf.Tensor:
    """Compute this replica's share of the mean objective over the global batch.

    Gradients are summed over replicas, so each replica divides the *sum* of its examples by the size of the global
    batch. The result does not depend on how the batch is divided, even if replicas have different numbers of
    examples.

    Args:
        elbo_terms: Of this replica's examples.
        weight: `[batch]` float32, one over the number of examples in the global batch, or 0 for padding.

    Returns:
        A scalar in nats.
    """
    return tf.reduce_sum(weight * elbo_terms.objective)


def no_totals() -> Totals:
    """Return the totals of no example."""
    return Totals(*(tf.zeros([], tf.float64) for _ in Totals._fields))


def totals_of(batch: Batch, elbo_terms: ElboTerms, snr_db: tf.Tensor) -> Totals:
    """Sum the terms of a batch and its SNR in dB, `[batch]`, over its examples."""
    real = tf.cast(batch.weight > 0, tf.float64)
    per_example = (elbo_terms.log_likelihood, tf.reduce_sum(elbo_terms.kl, axis=-1), snr_db)
    log_likelihood, kl, snr = (tf.reduce_sum(real * tf.cast(value, tf.float64)) for value in per_example)
    examples = tf.reduce_sum(real)
    return Totals(log_likelihood, kl, snr, examples, examples * batch.audio.shape[-1])


def sum_over_parts(
    function: Callable[[Batch, tf.Tensor], T], batch: Batch, noise: tf.Tensor, parts: int, zeros: T
) -> T:
    """Sum a function over parts of a batch, one after the other, so that memory holds the tensors of a single part.

    The examples' weights refer to the global batch, so the sum does not depend on the number of parts.

    Args:
        function: Of some examples and their noise.
        batch: Of this replica.
        noise: Of its examples.
        parts: How many there are.
        zeros: Of the structure of the result.
    """
    if parts == 1:
        return function(batch, noise)
    size = batch.position.shape[0]
    parts = -(-size // -(-size // parts))  # fewer, if some would have padding only
    # The loop needs parts of one size: padding repeats the last example with a weight of 0.
    rows = tf.reshape(tf.range(parts * -(-size // parts)), [parts, -1])
    real = tf.cast(rows < size, tf.float32)
    rows = tf.minimum(rows, size - 1)
    batches, noises = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), (batch, noise))
    batches = batches._replace(weight=batches.weight * real)

    def add(index: tf.Tensor, sums: T) -> tuple[tf.Tensor, T]:
        part = tf.nest.map_structure(lambda tensor: tensor[index], batches)
        added = function(part, noises[index])
        return index + 1, tf.nest.map_structure(lambda old, new: old + tf.convert_to_tensor(new), sums, added)

    _, sums = tf.while_loop(
        lambda index, _: index < parts, add, (tf.constant(0), zeros), parallel_iterations=1
    )
    return sums
