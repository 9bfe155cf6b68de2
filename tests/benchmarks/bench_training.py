"""Time training and generation, each compared with alternatives in the same process.

    notebook      the preset `reference`, and a plain loop with eager steps and decoding by librosa in each epoch
    input         the steps of an epoch, and as many steps on one batch in memory
    replicas      a step without a strategy, and with MirroredStrategy on 1 and 2 logical devices
    parts         a step, and one with Keras's own optimizer or recurrent layers
    checkpoints   steps with a checkpoint every 10 seconds, and steps without
    generation    seconds of music per second, eight clips at a time

Other processes may use the cores. The variants of a table therefore take turns of a few seconds, and the ratios
are medians over neighbouring turns, of wall time and of CPU time. `make bench-training` prints the tables.
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
from turns import Bench, on_devices, print_heading, times_of, wall_secs

from trainer.conditioning import Condition
from trainer.config import Config
from trainer.data.clip_store import Clips, ClipStore
from trainer.data.distribute import distributed_iterator
from trainer.data.input_pipeline import Batch, count_steps, training_batches
from trainer.generation.generator import Generator
from trainer.models import make_model
from trainer.models.hierarchical import priors
from trainer.presets import PRESETS
from trainer.runs.checkpoints import Writer
from trainer.training import train_step
from trainer.training.totals import replica_loss
from trainer.training.workers.distribution import Distribution

CHECKPOINT_SECS = 10.0
GENERATED_CLIPS = 8  # at a time
STEPS = 8  # per turn
EPOCHS = 10_000  # more than all turns take
TINY = PRESETS["tiny"]


def notebook(bench: Bench) -> None:
    """Time an epoch of the preset `reference` over the training clips."""
    config = PRESETS["reference"]
    count = bench.manifest.clip_count("train")
    model, adam = make_model(config, bench.metadata), tf.keras.optimizers.Adam(config.learning_rate)

    def plain() -> None:
        for first in range(0, count, config.batch_size):
            paths = bench.paths[first : min(first + config.batch_size, count)]
            loaded = [librosa.load(path, sr=RATE_HZ, duration=CLIP_SECS)[0] for path in paths]
            audio = tf.constant(np.stack(loaded))
            condition = Condition(
                tf.zeros([len(paths)], tf.int32), tf.zeros([len(paths), 0]), tf.zeros([len(paths)], tf.int32)
            )
            with tf.GradientTape() as tape:
                noise = tf.random.normal([len(paths), config.latent_dim])
                elbo_terms = model.elbo_terms(audio, condition, noise, tf.constant(1.0))
                loss = replica_loss(elbo_terms, tf.fill([len(paths)], 1 / len(paths)))
            adam.apply_gradients(
                zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
            )

    ours = epoch_of(bench, config, stored(bench))
    print_heading(f"Preset `reference`, an epoch of {count} clips", "ms/clip", "ratio", "CPU ms", "ratio")
    bench.print_ratios({"this trainer": ours, "notebook loop: eager step, librosa each epoch": plain}, count)


def stored(bench: Bench) -> Clips:
    """Decode the training clips into a scratch file."""
    return ClipStore(bench.manifest, bench.manifest.clip_count("train"), bench.output.parent).read(
        bench.clips
    )


def epoch_of(bench: Bench, config: Config, clips: Clips) -> Callable[[], None]:
    """Return a function that runs the steps of one epoch, with the trainer's input pipeline."""
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


def input_pipeline(bench: Bench) -> None:
    """Time how long a step waits for its batch."""
    strategy = Distribution(None, 1).strategy
    cached = epoch_of(bench, TINY, stored(bench))
    step = cached.step
    steps = count_steps(bench.manifest, TINY)
    constant = on_devices(bench.batch(TINY), strategy)
    batches = distributed_iterator(
        training_batches([bench.clips], TINY, bench.manifest, range(1, EPOCHS)), strategy
    )

    def read() -> None:
        for batch in itertools.islice(batches, steps):
            step(batch)

    variants = {
        "one batch in memory": lambda: [step(constant) for _ in range(steps)],
        "clips from the scratch file": cached,
        "clips read from shards": read,
    }
    print_heading(f"Input: an epoch of {steps} steps of `tiny`", "ms/step", "ratio", "CPU ms", "ratio")
    bench.print_ratios(variants, steps)


def replicas(bench: Bench) -> None:
    """Time a step with the same global batch on one device and divided between two."""
    for preset in ("tiny", "wave"):
        config = PRESETS[preset]
        batch = bench.batch(config)
        variants = {}
        for name, strategy in {
            "one device, no strategy": tf.distribute.get_strategy(),
            "MirroredStrategy, 1 device": Distribution(None, 1).strategy,
            "MirroredStrategy, 2 logical devices": Distribution(None, 2).strategy,
        }.items():
            step = bench.train_state(config, strategy)
            distributed = batch
            if name.startswith("Mirrored"):
                distributed = on_devices(batch, strategy)
            variants[name] = lambda step=step, batch=distributed: [step(batch) for _ in range(STEPS)]
        title = f"A step of `{preset}`, {config.batch_size} crops in total"
        print_heading(title, "ms/step", "ratio", "CPU ms", "ratio")
        bench.print_ratios(variants, STEPS)


def parts(bench: Bench) -> None:
    """Compare this project's optimizer and recurrent layers with Keras's."""

    def adam(learning_rate: float, global_clipnorm: float | None) -> tf.keras.optimizers.Adam:
        return tf.keras.optimizers.Adam(learning_rate, global_clipnorm=global_clipnorm)

    replaced = {
        "this trainer": contextlib.nullcontext(),
        "Keras's Adam": mock.patch.object(train_step, "FusedAdam", adam),
        "Keras's GRU": mock.patch.object(
            priors, "GRU", functools.partial(tf.keras.layers.GRU, return_sequences=True)
        ),
    }
    for preset in ("wave", "reference"):
        config, strategy, variants = PRESETS[preset], Distribution(None, 1).strategy, {}
        batch = on_devices(bench.batch(config), strategy)
        for name, replacement in replaced.items():
            if preset == "reference" and name == "Keras's GRU":
                continue  # the reference model has no recurrent layer
            with replacement:
                step = bench.train_state(config, strategy)
            variants[name] = lambda step=step, batch=batch: [step(batch) for _ in range(STEPS)]
        print_heading(f"A step of `{preset}`", "ms/step", "ratio", "CPU ms", "ratio")
        bench.print_ratios(variants, STEPS)


def checkpoints(bench: Bench) -> None:
    """Measure the CPU time of checkpoints, which are written while steps run on the same cores."""
    overhead_column = f"overhead, one every {CHECKPOINT_SECS:g} s"
    print_heading("Checkpoints", "MB", "blocks the step, ms", "CPU ms in total", overhead_column)
    for name in ("tiny", "wave", "reference"):
        step = bench.train_state(PRESETS[name], Distribution(None, 1).strategy)
        batch = on_devices(bench.batch(PRESETS[name]), Distribution(None, 1).strategy)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = tf.train.Checkpoint(**step.train_state.trackables)
            writer = Writer(checkpoint, Path(folder), keep=1)
            saves = [measure_save(step, batch, writer, number) for number in range(bench.turns + 1)][1:]
            size_mb = sum(path.stat().st_size for path in Path(folder).glob("*")) / 1e6
            writer.close()
        blocked, cpu = (statistics.median(times) for times in zip(*saves, strict=True))
        overhead = cpu / (CHECKPOINT_SECS * os.cpu_count())
        print(
            f"| `{name}` | {size_mb:.0f} | {1000 * blocked:.0f} | {1000 * cpu:.0f} | {overhead:.2%} |",
            flush=True,
        )


def measure_save(
    step: Callable[[Batch], None], batch: Batch, writer: Writer, number: int
) -> tuple[float, float]:
    """Return the seconds for which a save blocks the step, and the CPU seconds that it adds.

    The latter include copies of variables, which the step after a save makes before it changes them.
    """
    step_cpu = statistics.median(times_of(step, batch)[1] for _ in range(3))
    started, steps = time.process_time(), 0
    blocked = wall_secs(writer.write, number)
    while not (steps and writer.is_done()):
        step(batch)
        steps += 1
    writer.finish()
    return blocked, max(0.0, time.process_time() - started - steps * step_cpu)


def generation(bench: Bench) -> None:
    """Time the generation of eight clips, from noise to samples."""
    print_heading(f"Generation, {GENERATED_CLIPS} clips of {CLIP_SECS:g} s at a time", "s", "times real time")
    for name in ("tiny", "wave"):
        generator = Generator(make_model(PRESETS[name], bench.metadata), bench.metadata, Path(), "")
        genre = bench.metadata.genres[0]
        times = [wall_secs(generator.sample, GENERATED_CLIPS, seed, genre) for seed in range(bench.turns + 1)]
        median_secs = statistics.median(times[1:])
        print(
            f"| `{name}` | {median_secs:.2f} | {GENERATED_CLIPS * CLIP_SECS / median_secs:.0f} |", flush=True
        )


TABLES = {
    "notebook": notebook,
    "input": input_pipeline,
    "replicas": replicas,
    "parts": parts,
    "checkpoints": checkpoints,
    "generation": generation,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--turns", type=int, default=5, help="timings of each variant")
    parser.add_argument(
        "--table", action="append", choices=TABLES, help="only this table; may be repeated (default: all)"
    )
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "gtzan-cvae-bench")
    flags = parser.parse_args()
    Distribution(None, 2)  # logical devices must be created before the first use of the CPU
    bench = Bench(flags.corpus / str(flags.clips), flags.clips, flags.turns)
    print(f"{os.cpu_count()} cores, {flags.clips} clips of {CLIP_SECS:g} s, TensorFlow {tf.__version__}")
    for name in flags.table or TABLES:
        TABLES[name](bench)


if __name__ == "__main__":
    main()
