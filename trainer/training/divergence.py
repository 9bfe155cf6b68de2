"""Whether a training still learns: its loss is a number, and not far above what it was."""

from __future__ import annotations

import statistics
from collections import deque

from trainer.training.train_step import Totals

LOOK_STEPS = 10  # between two looks at the figures: each waits for the device
# How far above the lowest loss an explosion is: so many nats a sample, and so many times the first loss.
# Untrained models have 30 for music and 500 for loud tones, and batches differ as the loudness of clips does;
# single steps of a healthy run of the preset `reference` have 16 more than their neighbours. What explodes has
# 1,000 within some steps.
EXPLODED_NATS = 100.0
EXPLODED_TIMES = 9.0


class DivergedError(Exception):
    """A weight, a loss or a metric is NaN or infinite, or the loss has exploded."""


class LossWatch:
    """The losses of the last steps, beside the lowest that the run had since it was started.

    More than half of the last `LOOK_STEPS` must be too high: one batch unlike all others is no explosion.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[Totals, float]] = deque(maxlen=LOOK_STEPS)
        self._first: float | None = None
        self._lowest = float("inf")

    def add(self, sums: Totals, beta: float) -> None:
        """Of one step, and the weight of its KL terms; does not wait for the device."""
        self._recent.append((sums, beta))

    def look(self) -> None:
        """Looks at the last steps.

        Raises:
            DivergedError: The loss has exploded.
        """
        if len(self._recent) < LOOK_STEPS:
            return
        loss = statistics.median(
            float((beta * sums.kl - sums.log_likelihood) / sums.samples) for sums, beta in self._recent
        )
        if self._first is None:
            self._first = loss
        if loss > self._lowest + max(EXPLODED_NATS, EXPLODED_TIMES * abs(self._first)):
            raise DivergedError(f"the loss rose from {self._lowest:.3g} to {loss:.3g} nats a sample")
        self._lowest = min(self._lowest, loss)
