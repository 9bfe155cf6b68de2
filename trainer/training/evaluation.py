"""The metrics of whole clips after each epoch."""

from __future__ import annotations

from collections.abc import Callable

from trainer.data.clip_store import Clips
from trainer.data.distribute import distributed_iterator
from trainer.data.input_pipeline import evaluation_batches
from trainer.data.reader import Reader
from trainer.data.training_data import TrainingData
from trainer.runs.metrics import VALIDATION_ELBO
from trainer.training.totals import Totals
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution


def evaluation_metrics(
    clips: TrainingData,
    state: TrainState,
    distribution: Distribution,
    before_batch: Callable[[], None],
    while_waiting: Callable[[], None],
) -> dict[str, float]:
    """Compute the ELBO, its terms and the SNR of whole test clips, and the ELBO of whole validation clips.

    Args:
        clips: The data.
        state: The model.
        distribution: The workers and devices.
        before_batch: Called before each batch.
        while_waiting: Called repeatedly while a batch is not ready.

    Returns:
        The metrics, in nats per clip and dB.
    """

    def totals_of(split: Clips) -> Totals:
        """Sum the terms of the clips of a split, on all workers."""
        batches = evaluation_batches(split, state.evaluation_clips, distribution.index, distribution.workers)
        totals: Totals | None = None
        with Reader(clips.source, [lambda: batches], while_waiting) as reader:
            for batch in distributed_iterator(reader, distribution.strategy):
                before_batch()
                sums = state.evaluation_step(batch)
                totals = sums if totals is None else totals.plus(sums)
        assert totals is not None
        return totals

    totals = totals_of(clips.load_test_clips(while_waiting))
    clip_samples = clips.manifest.clip_samples
    metrics = {f"test_{name}": value for name, value in totals.nats_per_clip(clip_samples).items()}
    metrics |= {"test_snr_db": float(totals.snr_db / totals.examples)}
    if (validation_clips := clips.load_validation_clips(while_waiting)) is not None:
        metrics[VALIDATION_ELBO] = totals_of(validation_clips).nats_per_clip(clip_samples)["elbo"]
    return metrics
