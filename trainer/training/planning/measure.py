"""Time a training's steps, evaluation and samples on noise, without writing anything."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

import tensorflow as tf
from tqdm import tqdm

from preprocessing.dataset.manifest import Manifest
from trainer import run_config
from trainer.conditioning import Condition
from trainer.config import Config
from trainer.data import input_pipeline
from trainer.data.clip_store import ClipStore
from trainer.data.dataset import Clip
from trainer.data.distribute import distributed_iterator
from trainer.data.input_pipeline import Batch
from trainer.models.base import Stage
from trainer.run_config import DatasetMetadata
from trainer.runs.checkpoints import variables_of
from trainer.training import samples
from trainer.training.schedule import stage_at
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution

WARM_UP_STEPS = 2  # compile the step and fill the caches: not timed
TIMED_STEPS = 5
REPEATS = 2  # of others: the first time, libraries are imported and fonts are found

Timer: TypeAlias = Callable[[Callable[[], object]], float]  # calls, and returns the seconds that it took


@dataclass(frozen=True)
class Measured:
    """What was measured of a model and of a few steps with it."""

    parameters: int
    device: str  # CPU or GPU
    step_secs: float  # on average over all epochs, whose steps differ by stage
    evaluation_secs: float  # of the test and validation splits after each epoch
    samples_secs: float  # of rendering the samples after each epoch
    samples_bytes: int  # of an epoch's samples, in the run and in TensorBoard's events
    checkpoint_bytes: int  # of one checkpoint
    weights_bytes: int  # of the best epoch's weights, which are kept beside the checkpoints
    memory_bytes: int  # peak of this process
    gpu_memory_bytes: int | None  # peak of the first GPU


def measure(config: Config, manifest: Manifest, distribution: Distribution, data: str) -> Measured:
    """Time steps, an evaluation batch and the samples of an epoch, on noise of the dataset's format."""
    metadata = run_config.metadata_of(manifest, data)
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    stages = Counter(stage_at(config, epoch) for epoch in range(config.epochs))
    timings = (WARM_UP_STEPS + TIMED_STEPS) * len(stages) + 2 * REPEATS
    with tqdm(total=timings, desc="timing", unit=" steps", leave=False) as progress:

        def timed(call: Callable[[], object]) -> float:
            started = time.monotonic()
            call()
            progress.update()
            return time.monotonic() - started

        state = TrainState(config, metadata, distribution.strategy)
        step_secs = _time_step(state, manifest, stages, timed)
        evaluation_secs = _time_evaluation(state, manifest, timed)
        samples_secs, samples_bytes = _time_samples(state, manifest, metadata, timed)
    return Measured(
        parameters=state.averaged.parameter_count(),
        device="GPU" if has_gpu else "CPU",
        step_secs=step_secs,
        evaluation_secs=evaluation_secs,
        samples_secs=samples_secs,
        samples_bytes=2 * samples_bytes,  # TensorBoard's events repeat them
        checkpoint_bytes=_size(tf.train.Checkpoint(**state.trackables)),
        weights_bytes=_size(tf.train.Checkpoint(model=state.averaged)),
        memory_bytes=_peak_memory_bytes(),
        gpu_memory_bytes=tf.config.experimental.get_memory_info("GPU:0")["peak"] if has_gpu else None,
    )


def _time_step(state: TrainState, manifest: Manifest, stages: Counter[Stage], timed: Timer) -> float:
    """Time training steps, and average over the epochs of each stage."""
    config = state.config
    crops = _noise_batch(config.batch_size, input_pipeline.crop_length(config, manifest), manifest)
    (batch,) = distributed_iterator(tf.data.Dataset.from_tensors(crops), state.strategy)
    step_secs = 0.0
    for stage, epochs in stages.items():
        secs = [
            timed(partial(_train, state, batch, step, stage)) for step in range(WARM_UP_STEPS + TIMED_STEPS)
        ]
        step_secs += epochs / config.epochs * median(secs[WARM_UP_STEPS:])
    return step_secs


def _time_evaluation(state: TrainState, manifest: Manifest, timed: Timer) -> float:
    """Time a batch of whole clips; return the time of all batches of both splits."""
    whole = _noise_batch(state.evaluation_clips, manifest.clip_samples, manifest)
    (batch,) = distributed_iterator(tf.data.Dataset.from_tensors(whole), state.strategy)
    secs = [timed(lambda: float(state.evaluation_step(batch).kl)) for _ in range(REPEATS)]
    splits = [manifest.clip_count(split) for split in ("validation", "test")]
    return secs[-1] * sum(-(-clips // state.evaluation_clips) for clips in splits)


def _time_samples(
    state: TrainState, manifest: Manifest, metadata: DatasetMetadata, timed: Timer
) -> tuple[float, int]:
    """Render the samples of an epoch; return the time and the size of their files."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        secs = [timed(lambda: _render(folder, state, manifest, metadata)) for _ in range(REPEATS)]
        return secs[-1], sum(path.stat().st_size for path in folder.glob("samples/epoch-*/*"))


def _train(state: TrainState, batch: Batch, step: int, stage: Stage) -> float:
    """Run a training step to its end."""
    beta = tf.constant(state.config.beta, tf.float32)
    return float(state.train_step(batch, tf.constant(step, tf.int32), beta, stage).kl)


def _render(folder: Path, state: TrainState, manifest: Manifest, metadata: DatasetMetadata) -> None:
    """Choose and render the samples of an epoch, as a training does."""

    def read(indices: Sequence[int]) -> ClipStore:
        store = ClipStore(manifest, len(indices), folder)
        noise = Clip(_noise([manifest.clip_samples]), _condition(manifest, []), tf.constant("noise"))
        for row in range(len(indices)):
            store.write(row, tf.nest.map_structure(lambda tensor: tensor.numpy(), noise))
        return store

    fixed = samples.choose_samples(folder, read, state.config, manifest)
    samples.render_epoch(folder, fixed, state.averaged, metadata, epoch=1)


def _noise_batch(size: int, length: int, manifest: Manifest) -> Batch:
    position, weight = tf.range(size), tf.fill([size], 1.0 / size)
    return Batch(_noise([size, length]), _condition(manifest, [size]), position, weight)


def _noise(shape: list[int]) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, [0, 0], -0.5, 0.5)


def _condition(manifest: Manifest, shape: list[int]) -> Condition:
    return Condition(
        tf.zeros(shape, tf.int32), tf.zeros([*shape, len(manifest.attributes)]), tf.zeros(shape, tf.int32)
    )


def _size(checkpoint: tf.train.Checkpoint) -> int:
    return sum(int(tf.size(variable)) * variable.dtype.size for variable in variables_of(checkpoint))


def _peak_memory_bytes() -> int:
    """Return this process's peak resident memory."""
    unit = 1 if sys.platform == "darwin" else 1_024  # getrusage(2): bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
