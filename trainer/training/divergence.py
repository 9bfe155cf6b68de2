"""Detect a training that diverges: a loss that is NaN or infinite, or has risen far above its minimum."""

from __future__ import annotations

import statistics
from collections import deque

from trainer.training.totals import Totals

CHECK_STEPS = 10  # between two checks, each of which waits for the device
# A training has diverged if its median loss exceeds its minimum by `MAX_RISE_NATS` per sample and by
# `MAX_RISE_FACTOR` times its first loss. An untrained model has a loss of 30 nats per sample for music and of 500 for
# loud tones. Batches differ with the loudness of their clips: in a healthy run of the preset `reference`, single steps
# are 16 nats above their neighbours. A diverging run rises by 1,000 nats within a few steps.
MAX_RISE_NATS = 100.0
MAX_RISE_FACTOR = 9.0


class DivergedError(Exception):
    """A weight, a loss or a metric is NaN or infinite, or the loss has risen too far."""


class DivergenceDetector:
    """Compares the median loss of the last `CHECK_STEPS` steps with the lowest one since the process started.

    The median ignores single outlier batches.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[Totals, float]] = deque(maxlen=CHECK_STEPS)
        self._first: float | None = None
        self._lowest = float("inf")

    def add(self, sums: Totals, beta: float) -> None:
        """Record a step without waiting for the device.

        Args:
            sums: Of the step.
            beta: Weight of its KL terms.
        """
        self._recent.append((sums, beta))

    def check(self) -> None:
        """Check the last steps; nothing is checked before there are `CHECK_STEPS` of them.

        Raises:
            DivergedError: The loss has risen too far.
        """
        if len(self._recent) < CHECK_STEPS:
            return
        loss = statistics.median(
            float((beta * sums.kl - sums.log_likelihood) / sums.samples) for sums, beta in self._recent
        )
        if self._first is None:
            self._first = loss
        if loss > self._lowest + max(MAX_RISE_NATS, MAX_RISE_FACTOR * abs(self._first)):
            raise DivergedError(f"the loss rose from {self._lowest:.3g} to {loss:.3g} nats per sample")
        self._lowest = min(self._lowest, loss)
