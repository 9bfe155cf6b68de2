"""A dataset for the benchmarks of training, and timing of variants that take turns."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from bench_preprocessing import write_corpus

from preprocessing.__main__ import main as preprocess
from trainer import run_config
from trainer.config import Config
from trainer.data import dataset
from trainer.data.distribute import distributed_iterator
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import Batch, training_batches
from trainer.training.train_step import TrainState


class Bench:
    """A dataset of noise, and comparisons on it; `turns` is the number of timings of each variant."""

    def __init__(self, corpus: Path, clips: int, turns: int) -> None:
        write_corpus(corpus, clips)
        self.paths = sorted(corpus.glob("*/*.wav"))
        self.turns = turns
        self.output = corpus.with_name(f"{corpus.name}-dataset")
        if preprocess(["--input", str(corpus), "--output", str(self.output), "--shards", "4"]):
            raise SystemExit("preprocessing failed")
        self.source, self.manifest = open_dataset(str(self.output), corpus)
        self.metadata = run_config.metadata_of(self.manifest, str(self.output))
        self.clips = dataset.open_split(self.source, self.manifest, "train")

    def train_state(self, config: Config, strategy: tf.distribute.Strategy) -> Callable[[Batch], None]:
        """Return a function that runs one train step on a batch and waits until it has finished."""
        train_state = TrainState(config, self.metadata, strategy)
        counter = itertools.count()

        def step(batch: Batch) -> None:
            float(train_state.train_step(batch, tf.constant(next(counter)), tf.constant(0.5)).log_likelihood)

        step.train_state = train_state
        return step

    def batch(self, config: Config) -> Batch:
        """Return the first batch of an epoch."""
        return next(iter(training_batches([self.clips], config, self.manifest, [1])))

    def print_ratios(self, variants: dict[str, Callable[[], None]], units: float = 1.0) -> None:
        """Print a row for each variant: milliseconds per unit, and their ratio to those of the first variant.

        Each is a median, first of wall time, then of CPU time; the first turn is a warm-up and not counted.
        """
        turns = [[times_of(variant) for variant in variants.values()] for _ in range(self.turns + 1)][1:]
        for index, name in enumerate(variants):
            cells = []
            for kind in range(2):  # wall, CPU
                median_secs = statistics.median(turn[index][kind] for turn in turns)
                ratio = statistics.median(turn[index][kind] / turn[0][kind] for turn in turns)
                cells += [f"{1000 * median_secs / units:.1f}", f"{ratio:.2f}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def on_devices(batch: Batch, strategy: tf.distribute.Strategy) -> Batch:
    """Distribute one batch to the devices of a strategy."""
    (distributed,) = distributed_iterator(tf.data.Dataset.from_tensors(batch), strategy)
    return distributed


def wall_secs(function: Callable, *args: object) -> float:
    """Return the wall seconds of one call."""
    started = time.perf_counter()
    function(*args)
    return time.perf_counter() - started


def times_of(function: Callable, *args: object) -> tuple[float, float]:
    """Return the wall seconds and the CPU seconds, of all threads, of one call."""
    started = time.process_time()
    wall = wall_secs(function, *args)
    return wall, time.process_time() - started


def print_heading(title: str, *columns: str) -> None:
    """Print a title and the header of a Markdown table."""
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}", flush=True)
