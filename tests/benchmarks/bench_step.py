"""Tell where the time of a training step goes: its parts, each alone with its gradient, beside a matrix product.

The floating-point operations of a part are those that TensorFlow's profiler counts in the graph of its gradient, and
those of the GRUs' loops, which it does not see. They are compared with those of a large matrix product that is timed in
the same turn: what runs at the rate of the product can only become quicker with fewer operations.
`make bench-training` prints a table for each preset.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from turns import Bench, on_devices, print_heading, wall_secs

from trainer.data.input_pipeline import Batch
from trainer.dsp import stft
from trainer.models.base import Stage
from trainer.models.hierarchical.model import HierarchicalVAE
from trainer.presets import PRESETS
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution

MATRIX = 2_048
BETA = 0.5


class Part(NamedTuple):
    """A part of a training step."""

    run: Callable[[], object]
    operations: float  # floating-point operations


def count_operations(function: tf.types.experimental.GenericFunction, *arguments: object) -> float:
    """Return the floating-point operations of a function's graph; those in loops count as one iteration or less."""
    graph = function.get_concrete_function(*arguments).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


def gru_operations(model: HierarchicalVAE, clips: int, steps: int) -> float:
    """Return the operations of the loops of two GRUs: for n units 6 n^2 per clip, step and direction."""
    return clips * steps * 2 * 2 * 6 * model.config.prior_units**2


def parts_of_step(train_state: TrainState, batch: Batch) -> dict[str, Part]:
    """Return the parts of a step that updates all weights, each with the inputs that it has there."""
    model = train_state.model
    clips, samples = batch.audio.shape
    shape, window = model._latent_shape(samples), model._window_steps(samples)
    noise = tf.random.stateless_normal([clips, model.elbo_noise_size(samples)], [0, 1])
    whole = model._sample_posterior(batch.audio, batch.condition, shape.split_elbo_noise(noise, window))
    frames = window * shape.frames_per_step
    latents = whole.global_latent, whole.sequence_latents[:, :window]
    coefficients, log_scale = whole.coefficients[:, :frames], tf.zeros([clips, frames, shape.bins])
    context = tf.concat([whole.global_latent, whole.embedding], axis=-1)

    def encoder() -> list[tf.Tensor]:
        return [posterior.mean for posterior in model.encoder(whole.coefficients, whole.embedding)]

    def prior() -> list[tf.Tensor]:
        return [model.sequence_prior.log_density(latents[1], context, whole.beat[:, :window])]

    def features() -> list[tf.Tensor]:
        coefficients = model._analyse(batch.audio)
        blocks = stft.blocks_of(batch.audio, shape.bins, shape.frames)
        blocks = blocks[:, : frames + stft.OVERLAP - 1]
        beat = model.beat_phase.from_audio(batch.condition, coefficients)
        return [beat, stft.log_magnitudes_of_blocks(blocks)]

    decoder = model.decoder
    losses = {
        "encoder": encoder,
        "spectral envelope": lambda: [decoder.envelope(*latents, whole.embedding)],
        "coefficient model": lambda: decoder.coefficient_model.predict_frames(coefficients, log_scale),
        "magnitude decoder": lambda: decoder.magnitudes(*latents, whole.embedding),
        "sequence prior": prior,
    }
    gradients = {name: _gradient(model, loss) for name, loss in losses.items()}
    parts = {name: Part(gradient, count_operations(gradient)) for name, gradient in gradients.items()}
    of_loops = gru_operations(model, clips, window)
    prior_part = parts["sequence prior"]
    parts["sequence prior"] = prior_part._replace(operations=prior_part.operations + of_loops)
    forward = tf.function(features, autograph=False)
    parts["transforms, beat (no gradient)"] = Part(forward, count_operations(forward))
    return parts


def _gradient(
    model: HierarchicalVAE, outputs: Callable[[], list[tf.Tensor]]
) -> tf.types.experimental.GenericFunction:
    def gradient() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(output) for output in outputs()])
        gradients = tape.gradient(loss, model.variables_of(Stage.ALL_WEIGHTS))
        return [value for value in gradients if value is not None]

    return tf.function(gradient, autograph=False)


def costs(bench: Bench, preset: str) -> None:
    """Print the parts of a step of a preset, the most expensive first."""
    config, strategy = PRESETS[preset], Distribution(None, 1).strategy
    step = bench.train_state(config, strategy)
    batch = bench.batch(config)
    parts = parts_of_step(step.train_state, batch)
    distributed = on_devices(batch, strategy)
    matrix = tf.random.normal([MATRIX, MATRIX])
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    whole = Part(lambda: step(distributed), sum(part.operations for part in parts.values()))
    timed = {"the whole step": whole, **parts, "product": Part(lambda: float(product()), 2 * MATRIX**3)}
    turns = [
        {name: wall_secs(_waited(part.run)) for name, part in timed.items()} for _ in range(bench.turns + 2)
    ][2:]  # the first turns are a warm-up
    medians = {name: statistics.median(turn[name] for turn in turns) for name in timed}
    rates = {name: part.operations / medians[name] for name, part in timed.items()}
    rates["product"] = timed["product"].operations / medians["product"]
    print_heading(f"A step of `{preset}`", "ms", "of the step", "GFLOP", "GFLOP/s", "of a matrix product")
    for name in sorted(medians, key=lambda name: -medians[name]):
        if name == "product":
            continue
        share, rate = medians[name] / medians["the whole step"], rates[name]
        cells = f"{1000 * medians[name]:.0f}", f"{share:.0%}", f"{timed[name].operations / 1e9:.1f}"
        print(
            f"| {name} | {' | '.join(cells)} | {rate / 1e9:.0f} | {rate / rates['product']:.0%} |", flush=True
        )


def _waited(function: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for value in tf.nest.flatten(function())[-1:]:
            if value is not None:  # a whole step waits itself
                float(tf.reduce_sum(value))

    return run


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--preset", action="append", help="only this one; may be repeated (default: wave, tiny)"
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "gtzan-cvae-bench")
    flags = parser.parse_args()
    Distribution(None, 1)
    bench = Bench(flags.corpus / "16", 16, flags.turns)
    print(f"{os.cpu_count()} cores, TensorFlow {tf.__version__}")
    for preset in flags.preset or ("wave", "tiny"):
        costs(bench, preset)


if __name__ == "__main__":
    main()
