import pytest
import tensorflow as tf

from trainer.training.divergence import (
    CHECK_STEPS,
    MAX_RISE_FACTOR,
    MAX_RISE_NATS,
    DivergedError,
    DivergenceDetector,
)
from trainer.training.totals import Totals

SAMPLES = 500


def detector_after(*losses, detector=None, beta=0.5):
    """Add steps with these losses, to which the KL terms contribute half."""
    detector = detector or DivergenceDetector()
    for loss in losses:
        kl, log_likelihood = loss * SAMPLES, -loss * SAMPLES / 2
        sums = (log_likelihood, kl, 0.0, 4.0, SAMPLES)
        detector.add(Totals(*(tf.constant(value, tf.float64) for value in sums)), beta)
    return detector


def test_the_error_gives_the_losses():
    detector = detector_after(*[2.0] * CHECK_STEPS)
    detector.check()
    detector_after(*[MAX_RISE_NATS + 3] * CHECK_STEPS, detector=detector)
    with pytest.raises(DivergedError, match="rose from 2 to 103 nats per sample"):
        detector.check()


def test_losses_of_a_healthy_run_are_not_a_divergence():
    detector, diverged = DivergenceDetector(), []
    detector.check()  # before the first step
    for losses in (
        [3.0],  # a quiet batch
        [300.0] * CHECK_STEPS,  # untrained
        [0.9 * MAX_RISE_FACTOR * 300] * CHECK_STEPS,  # a warm-up
        [-3.0] * CHECK_STEPS,
        [-3.0] * 6 + [1e6] * 4,  # outlier batches
        [1e6] * CHECK_STEPS,  # the only divergence
    ):
        detector_after(*losses, detector=detector)
        try:
            detector.check()
        except DivergedError:
            diverged.append(losses)
    assert diverged == [[1e6] * CHECK_STEPS]


def test_a_slow_rise_is_compared_with_the_lowest_loss():
    detector = detector_after(*[0.0] * CHECK_STEPS)
    with pytest.raises(DivergedError):
        for loss in range(0, 1_000, 60):
            detector_after(*[float(loss)] * CHECK_STEPS, detector=detector)
            detector.check()
    assert loss == 120
