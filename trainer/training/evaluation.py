"""The metrics of whole clips after each epoch."""

from __future__ import annotations

from collections.abc import Callable

from trainer.data.dataset import Clips
from trainer.data.distribute import distributed_iterator
from trainer.data.input_pipeline import evaluation_batches
from trainer.training.train_step import Totals, TrainState
from trainer.training.workers.distribution import Distribution


def evaluation_totals(
    clips: Clips, state: TrainState, distribution: Distribution, before_batch: Callable[[], None]
) -> Totals:
    """Sum the ELBO, its terms and the SNR of the whole clips of a split, on all workers.

    Args:
        clips: The split, of at least one clip.
        state: The model.
        distribution: The workers and devices.
        before_batch: Called before each batch.
    """
    batches = evaluation_batches(clips, state.evaluation_clips, distribution.index, distribution.workers)
    totals: Totals | None = None
    for batch in distributed_iterator(batches, distribution.strategy):
        before_batch()
        sums = state.evaluation_step(batch)
        totals = sums if totals is None else totals.plus(sums)
    assert totals is not None
    return totals
