"""From per-example terms to the one number that is minimized, under any number of replicas."""

from __future__ import annotations

import tensorflow as tf

from trainer.models import ElboTerms


def replica_loss(elbo_terms: ElboTerms, weight: tf.Tensor) -> tf.Tensor:
    """This replica's share of the mean objective over the global batch, a scalar in nats.

    `weight` is `[batch]`: one over the number of examples in the whole batch, or 0 for what fills it up.

    Gradients of replicas are summed, so each divides its *sum* by the size of the whole batch: the result
    does not depend on how the batch was divided, not even when a last, small batch is divided unevenly.
    """
    return tf.reduce_sum(weight * elbo_terms.objective)
