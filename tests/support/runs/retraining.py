"""Retraining with a tiny model: its flags, and a call of the command."""

from support.tiny_corpus import WAVE_FLAGS
from trainer.__main__ import main

FLAGS = [*WAVE_FLAGS, "--epochs", "1", "--replicas", "1", "--count", "4", "--min-gain", "0.01"]
# More sparse coefficients improve the reconstruction without changing the shape of any weight.
MORE_COEFFICIENTS = [*FLAGS, "--sparse-coefficients", "6"]


def run_retrain(datasets, models, *flags, cache):
    return main(
        ["retrain", "--datasets", str(datasets), "--models", str(models), "--cache-dir", str(cache), *flags]
    )


def interrupt(*_):
    raise KeyboardInterrupt
