"""A dataset to measure training on, and what takes turns on it: how long each side of a comparison takes."""

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
from trainer.data.fetch import open_dataset
from trainer.data.input_pipeline import Batch, training_batches
from trainer.training.train_step import TrainState


class Bench:
    """A dataset of noise, and how long things take on it."""

    def __init__(self, corpus: Path, clips: int, turns: int) -> None:
        write_corpus(corpus, clips)
        self.paths = sorted(corpus.glob("*/*.wav"))
        self.turns = turns
        self.output = corpus.with_name(f"{corpus.name}-dataset")
        if preprocess(["--input", str(corpus), "--output", str(self.output), "--shards", "4"]):
            raise SystemExit("preprocessing failed")
        self.folder, self.manifest = open_dataset(str(self.output), corpus)
        self.metadata = run_config.metadata_of(self.manifest, str(self.output))
        self.clips = dataset.open_split(self.folder, self.manifest, "train")

    def train_state(self, config: Config, strategy: tf.distribute.Strategy) -> Callable[[Batch], None]:
        """A step on a batch, which waits for its end."""
        train_state = TrainState(config, self.metadata, strategy)
        counter = itertools.count()

        def step(batch: Batch) -> None:
            float(train_state.train_step(batch, tf.constant(next(counter)), tf.constant(0.5)).log_likelihood)

        step.train_state = train_state
        return step

    def batch(self, config: Config) -> Batch:
        """The first of an epoch, as `tf.data` gives it."""
        return next(iter(training_batches([self.clips], config, self.manifest, [1])))

    def ratios(self, sides: dict[str, Callable[[], None]], unit: float = 1.0) -> None:
        """Prints a row for each side: time a unit, and its ratio to the first's; a first turn warms up."""
        turns = [[spent(side) for side in sides.values()] for _ in range(self.turns + 1)][1:]
        for index, name in enumerate(sides):
            cells = []
            for kind in range(2):
                took = statistics.median(turn[index][kind] for turn in turns)
                ratio = statistics.median(turn[index][kind] / turn[0][kind] for turn in turns)
                cells += [f"{1000 * took / unit:.1f}", f"{ratio:.2f}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def seconds(side: Callable, *arguments: object) -> float:
    """Of one call."""
    started = time.perf_counter()
    side(*arguments)
    return time.perf_counter() - started


def spent(side: Callable, *arguments: object) -> tuple[float, float]:
    """Wall seconds and processor seconds, of all threads, of one call."""
    started = time.process_time()
    wall = seconds(side, *arguments)
    return wall, time.process_time() - started


def heading(title: str, *columns: str) -> None:
    """Of a Markdown table."""
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}", flush=True)
