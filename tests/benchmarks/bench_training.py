"""What training and generation cost, each beside what one would compare it with, in one process.

    notebook      the preset `reference` beside a plain loop: eager step, librosa decoding each epoch
    input         an epoch's steps beside as many on one batch that is in memory
    replicas      a plain step without a strategy beside MirroredStrategy with 1 and 2 logical devices
    parts         a step beside one with Keras's own optimizer or recurrent layers
    checkpoints   steps with a checkpoint each 10 seconds beside steps without
    arithmetic    floating-point operations of a step beside a large matrix product
    generation    seconds of music per second, eight clips at once

Cores may be shared: the sides of a comparison take turns of some seconds, and what is printed is the median
of the ratios of neighbouring turns, of wall time and of the processor's. `make bench-training` prints tables.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import librosa
import numpy as np
import tensorflow as tf
from bench_preprocessing import CLIP_SECS, RATE_HZ
from turns import Bench, heading, seconds, spent

from trainer.conditioning import Condition
from trainer.config import Config
from trainer.data import dataset
from trainer.data.dataset import Clips
from trainer.data.distribute import distributed_iterator
from trainer.data.input_pipeline import Batch, count_steps, training_batches
from trainer.generation.generator import Generator
from trainer.models import make_model, priors
from trainer.presets import PRESETS
from trainer.runs import checkpoints as checkpoint
from trainer.training import train_step as learner_room
from trainer.training.distribution import Distribution
from trainer.training.train_step import TrainState, replica_loss

CHECKPOINT_SECS = 10.0
MATRIX = 2_048
CLIPS_AT_ONCE = 8
STEPS = 8  # of a turn
EPOCHS = 10_000  # more than any turn takes
COMPARED = PRESETS["tiny"]  # in all but the first table and the last


def notebook(bench: Bench) -> None:
    """An epoch of the preset `reference` over the training clips."""
    config = PRESETS["reference"]
    count = bench.manifest.clip_count("train")
    model, adam = make_model(config, bench.metadata), tf.keras.optimizers.Adam(config.learning_rate)

    def plain() -> None:
        for first in range(0, count, config.batch_size):
            paths = bench.paths[first : min(first + config.batch_size, count)]
            loaded = [librosa.load(path, sr=RATE_HZ, duration=CLIP_SECS)[0] for path in paths]
            audio = tf.constant(np.stack(loaded))
            nothing = Condition(tf.zeros([len(paths)], tf.int32), tf.zeros([len(paths), 0]))
            with tf.GradientTape() as tape:
                noise = tf.random.normal([len(paths), config.latent_dim])
                elbo_terms = model.elbo_terms(audio, nothing, noise, tf.constant(1.0))
                value = replica_loss(elbo_terms, tf.fill([len(paths)], 1 / len(paths)))
            adam.apply_gradients(
                zip(tape.gradient(value, model.trainable_variables), model.trainable_variables, strict=True)
            )

    ours = epoch_of(bench, config, dataset.cache_in_memory(bench.clips))
    heading(f"Preset `reference`, an epoch of {count} clips", "ms a clip", "ratio", "CPU ms", "ratio")
    bench.ratios({"this trainer": ours, "notebook loop: eager step, librosa each epoch": plain}, count)


def epoch_of(bench: Bench, config: Config, clips: Clips) -> Callable[[], None]:
    """A whole epoch, as the trainer takes it."""
    strategy = Distribution(None, 1).strategy
    step, steps = bench.train_state(config, strategy), count_steps(bench.manifest, config)
    batches = distributed_iterator(
        training_batches([clips], config, bench.manifest, range(1, EPOCHS)), strategy
    )

    def epoch() -> None:
        for batch in itertools.islice(batches, steps):
            step(batch)

    epoch.step = step
    return epoch


def stall(bench: Bench) -> None:
    """How long a step waits for its batch."""
    strategy = Distribution(None, 1).strategy
    held = epoch_of(bench, COMPARED, dataset.cache_in_memory(bench.clips))
    step = held.step
    steps = count_steps(bench.manifest, COMPARED)
    (constant,) = distributed_iterator(tf.data.Dataset.from_tensors(bench.batch(COMPARED)), strategy)
    batches = distributed_iterator(
        training_batches([bench.clips], COMPARED, bench.manifest, range(1, EPOCHS)), strategy
    )

    def read() -> None:
        for batch in itertools.islice(batches, steps):
            step(batch)

    sides = {
        "one batch in memory": lambda: [step(constant) for _ in range(steps)],
        "clips held in memory": held,
        "clips read from shards": read,
    }
    heading(f"Input: an epoch of {steps} steps of `tiny`", "ms a step", "ratio", "CPU ms", "ratio")
    bench.ratios(sides, steps)


def replicas(bench: Bench) -> None:
    """The same global batch, divided or not."""
    for preset in ("tiny", "wave"):
        config = PRESETS[preset]
        batch = bench.batch(config)
        sides = {}
        for name, strategy in {
            "one device, no strategy": tf.distribute.get_strategy(),
            "MirroredStrategy, 1 device": Distribution(None, 1).strategy,
            "MirroredStrategy, 2 logical devices": Distribution(None, 2).strategy,
        }.items():
            step = bench.train_state(config, strategy)
            part = batch
            if name.startswith("Mirrored"):
                (part,) = distributed_iterator(tf.data.Dataset.from_tensors(batch), strategy)
            sides[name] = lambda step=step, part=part: [step(part) for _ in range(STEPS)]
        size = f"{config.batch_size} crops in all"
        heading(f"A step of `{preset}`, {size}", "ms a step", "ratio", "CPU ms", "ratio")
        bench.ratios(sides, STEPS)


def parts(bench: Bench) -> None:
    """What the optimizer and the recurrence gain that this project has of its own."""

    def adam(learning_rate: float, global_clipnorm: float | None) -> tf.keras.optimizers.Adam:
        return tf.keras.optimizers.Adam(learning_rate, global_clipnorm=global_clipnorm)

    replaced = {
        "as it is": contextlib.nullcontext(),
        "Keras's Adam": mock.patch.object(learner_room, "FusedAdam", adam),
        "Keras's GRU": mock.patch.object(
            priors, "GRU", functools.partial(tf.keras.layers.GRU, return_sequences=True)
        ),
    }
    for preset in ("wave", "reference"):
        config, strategy, sides = PRESETS[preset], Distribution(None, 1).strategy, {}
        (batch,) = distributed_iterator(tf.data.Dataset.from_tensors(bench.batch(config)), strategy)
        for name, replacement in replaced.items():
            if preset == "reference" and name == "Keras's GRU":
                continue  # it has none
            with replacement:
                step = bench.train_state(config, strategy)
            sides[name] = lambda step=step, batch=batch: [step(batch) for _ in range(STEPS)]
        heading(f"A step of `{preset}`", "ms a step", "ratio", "CPU ms", "ratio")
        bench.ratios(sides, STEPS)


def checkpoints(bench: Bench) -> None:
    """What a checkpoint each 10 seconds adds to steps, in the processor's time: both share the cores."""
    heading("Checkpoints", "MB", "holds the step, ms", "CPU ms in all", f"each {CHECKPOINT_SECS:g} s costs")
    for name in ("tiny", "wave", "reference"):
        step = bench.train_state(PRESETS[name], Distribution(None, 1).strategy)
        (batch,) = distributed_iterator(
            tf.data.Dataset.from_tensors(bench.batch(PRESETS[name])), Distribution(None, 1).strategy
        )
        with tempfile.TemporaryDirectory() as folder:
            whole = tf.train.Checkpoint(**step.train_state.parts)
            writer = checkpoint.Writer(whole, Path(folder), keep=1)
            turns = [one_save(step, batch, writer, number) for number in range(bench.turns + 1)][1:]
            size = sum(path.stat().st_size for path in Path(folder).glob("*")) / 1e6
            writer.close()
        held, extra = (statistics.median(side) for side in zip(*turns, strict=True))
        share = extra / (CHECKPOINT_SECS * os.cpu_count())
        print(f"| `{name}` | {size:.0f} | {1000 * held:.0f} | {1000 * extra:.0f} | {share:.2%} |", flush=True)


def one_save(
    step: Callable[[Batch], None], batch: Batch, writer: checkpoint.Writer, number: int
) -> tuple[float, float]:
    """Seconds that a save holds the step, and processor seconds that it takes in all.

    Those are more than the writing: the step after a save copies what it changes.
    """
    usual = statistics.median(spent(step, batch)[1] for _ in range(3))
    started, steps = time.process_time(), 0
    held = seconds(writer.write, number)
    while not (steps and writer.is_done()):
        step(batch)
        steps += 1
    writer.finish()
    return held, max(0.0, time.process_time() - started - steps * usual)


def arithmetic(bench: Bench) -> None:
    """Matrix products and convolutions of a step, forward and back, and how fast they are done."""
    matrix = tf.random.normal([MATRIX, MATRIX])
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))

    def multiply() -> None:
        for _ in range(4):
            float(product())

    heading("Arithmetic", "GFLOP a step", "clip/s", "GFLOP/s", "of a matrix product")
    for name in ("tiny", "wave"):
        config = PRESETS[name]
        step = bench.train_state(config, Distribution(None, 1).strategy)
        batch = bench.batch(config)
        operations = count_operations(step.train_state, batch)
        (batch,) = distributed_iterator(tf.data.Dataset.from_tensors(batch), Distribution(None, 1).strategy)
        pairs = [(seconds(multiply) / 4, seconds(step, batch)) for _ in range(3 * bench.turns)]
        pairs = pairs[bench.turns :]  # the first warm up
        most = [2 * MATRIX**3 / took for took, _ in pairs]
        reached = [operations / took for _, took in pairs]
        share = statistics.median(one / of for one, of in zip(reached, most, strict=True))
        took = statistics.median(took for _, took in pairs)
        clips = config.batch_size * config.crop_samples / bench.manifest.clip_samples / took
        rate = statistics.median(reached) / 1e9
        print(f"| `{name}` | {operations / 1e9:.1f} | {clips:.1f} | {rate:.0f} | {share:.0%} |", flush=True)


def count_operations(train_state: TrainState, batch: Batch) -> float:
    """Of one step, by TensorFlow's own count of its graph, and those of the GRUs' loops, unseen by it.

    In a loop a GRU of n units has a product of 6 n^2 operations a step and clip, and one on the way back.
    """
    noise = tf.zeros(
        [train_state.config.batch_size, train_state.model.elbo_noise_size(batch.audio.shape[-1])]
    )
    graph = tf.function(train_state._gradients).get_concrete_function(batch, noise, tf.constant(1.0)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    units = train_state.config.prior_units
    frames = train_state.model.steps(batch.audio.shape[-1])
    return counted + train_state.config.batch_size * frames * 2 * 2 * 6 * units**2


def generation(bench: Bench) -> None:
    """Eight new clips at once, from their noise to their samples."""
    heading(f"Generation, {CLIPS_AT_ONCE} clips of {CLIP_SECS:g} s at once", "s", "times real time")
    for name in ("tiny", "wave"):
        music = Generator(make_model(PRESETS[name], bench.metadata), bench.metadata, Path())
        genre = bench.metadata.genres[0]
        times = [seconds(music.prior, CLIPS_AT_ONCE, seed, genre) for seed in range(bench.turns + 1)]
        took = statistics.median(times[1:])
        print(f"| `{name}` | {took:.2f} | {CLIPS_AT_ONCE * CLIP_SECS / took:.0f} |", flush=True)


TABLES = {
    "notebook": notebook,
    "input": stall,
    "replicas": replicas,
    "parts": parts,
    "checkpoints": checkpoints,
    "arithmetic": arithmetic,
    "generation": generation,
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--turns", type=int, default=5, help="of each side of a comparison")
    parser.add_argument(
        "--table", action="append", choices=TABLES, help="only this; may be given several times"
    )
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "gtzan-cvae-bench")
    flags = parser.parse_args()
    Distribution(None, 2)  # divides the processor before its first use
    bench = Bench(flags.corpus / str(flags.clips), flags.clips, flags.turns)
    print(f"{os.cpu_count()} cores, {flags.clips} clips of {CLIP_SECS:g} s, TensorFlow {tf.__version__}")
    for name in flags.table or TABLES:
        TABLES[name](bench)


if __name__ == "__main__":
    main()
