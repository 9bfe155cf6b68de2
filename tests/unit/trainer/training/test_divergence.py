import pytest
import tensorflow as tf

from trainer.training.divergence import EXPLODED_NATS, EXPLODED_TIMES, LOOK_STEPS, DivergedError, LossWatch
from trainer.training.train_step import Totals

SAMPLES = 500


def watched(*losses, watch=None, beta=0.5):
    """A watch that has seen steps with these losses, half of each of them from the KL terms."""
    watch = watch or LossWatch()
    for loss in losses:
        kl, log_likelihood = loss * SAMPLES, -loss * SAMPLES / 2
        sums = (log_likelihood, kl, 0.0, 4.0, SAMPLES)
        watch.add(Totals(*(tf.constant(value, tf.float64) for value in sums)), beta)
    return watch


def test_an_explosion_is_told_with_its_figures():
    watch = watched(*[2.0] * LOOK_STEPS)
    watch.look()
    watched(*[EXPLODED_NATS + 3] * LOOK_STEPS, watch=watch)
    with pytest.raises(DivergedError, match="rose from 2 to 103 nats a sample"):
        watch.look()


def test_what_happens_to_healthy_runs_is_none():
    watch, told = LossWatch(), []
    watch.look()  # before the first step
    for losses in (
        [3.0],  # a quiet batch
        [300.0] * LOOK_STEPS,  # untrained
        [0.9 * EXPLODED_TIMES * 300] * LOOK_STEPS,  # a warm-up
        [-3.0] * LOOK_STEPS,
        [-3.0] * 6 + [1e6] * 4,  # some batches like no other
        [1e6] * LOOK_STEPS,  # and one that is not healthy
    ):
        watched(*losses, watch=watch)
        try:
            watch.look()
        except DivergedError:
            told.append(losses)
    assert told == [[1e6] * LOOK_STEPS]


def test_the_lowest_counts_not_the_last():
    """A slow explosion is one too."""
    watch = watched(*[0.0] * LOOK_STEPS)
    with pytest.raises(DivergedError):
        for loss in range(0, 1_000, 60):
            watched(*[float(loss)] * LOOK_STEPS, watch=watch)
            watch.look()
    assert loss == 120
