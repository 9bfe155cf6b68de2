"""Plan a training and estimate its time, disk and memory from a few steps on noise, without writing anything."""

from __future__ import annotations

import dataclasses
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
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from preprocessing.dataset.manifest import Manifest
from preprocessing.html.numbers import format_duration
from preprocessing.storage import lease
from trainer import run_config
from trainer.conditioning import Condition
from trainer.config import Config
from trainer.data import input_pipeline
from trainer.data.clip_store import SAMPLE_BYTES, ClipStore, decoded_bytes
from trainer.data.dataset import Clip
from trainer.data.distribute import distributed_iterator
from trainer.data.input_pipeline import Batch
from trainer.data.training_data import SPLITS, fits_on_disk
from trainer.models.base import Stage
from trainer.run_config import DatasetMetadata
from trainer.runs.checkpoints import variables_of
from trainer.runs.directory import POINTER, check_is_run, newest_checkpoint
from trainer.runs.settings_file import settings_yaml
from trainer.runs.storage import StorageFolder, is_remote
from trainer.training import samples
from trainer.training.configuration import check_replicas, find_dataset_of_run, resolve_config
from trainer.training.schedule import stage_at
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution

WARM_UP_STEPS = 2  # compile the step and fill the caches: not timed
TIMED_STEPS = 5


@dataclass(frozen=True)
class Plan:
    """What a training would do, and estimates of what it takes."""

    run: str
    data: str
    config: Config
    parameters: int
    replicas: int
    device: str  # CPU or GPU
    train_clips: int
    test_clips: int
    steps_per_epoch: int
    done_steps: int  # of the checkpoint from which the run would be resumed; 0: a new run
    checkpoint: str | None
    used_by: str | None  # the process that works on the run
    step_secs: float  # on average over all epochs, whose steps differ by stage
    evaluation_secs: float  # of the test and validation splits after each epoch
    samples_secs: float  # of rendering the samples after each epoch
    download_bytes: int  # of the dataset, if it is remote
    clip_cache_bytes: int  # of the decoded clips; 0 if they are more than may be stored
    checkpoint_bytes: int  # of one checkpoint
    weights_bytes: int  # of the best epoch's weights, which are kept beside the checkpoints
    samples_bytes: int  # of an epoch's samples, in the run and in TensorBoard's events
    memory_bytes: int  # peak of this process, with the clips that training would shuffle
    gpu_memory_bytes: int | None  # peak of the first GPU

    @property
    def remaining_steps(self) -> int:
        """Training steps that are left."""
        return max(0, self.config.epochs * self.steps_per_epoch - self.done_steps)

    @property
    def remaining_epochs(self) -> int:
        """Epochs that are left, the current one included."""
        return -(-self.remaining_steps // self.steps_per_epoch)

    @property
    def epoch_secs(self) -> float:
        """Estimated duration of an epoch with its evaluation and samples."""
        return self.steps_per_epoch * self.step_secs + self.evaluation_secs + self.samples_secs

    @property
    def remaining_secs(self) -> float:
        """Estimated duration of the remaining epochs."""
        after_epochs = self.remaining_epochs * (self.evaluation_secs + self.samples_secs)
        return self.remaining_steps * self.step_secs + after_epochs

    @property
    def disk_bytes(self) -> int:
        """Estimated size of what is added to the run: checkpoints, one of each kind being written, and samples."""
        checkpoints = (self.config.checkpoints_to_keep + 1) * self.checkpoint_bytes + 2 * self.weights_bytes
        return checkpoints + self.remaining_epochs * self.samples_bytes

    def to_json(self) -> dict[str, Any]:
        """Return fields and estimates as values of JSON."""
        names = ("remaining_steps", "remaining_epochs", "epoch_secs", "remaining_secs", "disk_bytes")
        return {**dataclasses.asdict(self), **{name: getattr(self, name) for name in names}}

    def describe(self) -> str:
        """Describe the plan in lines; the last block is a file for `--config`."""
        epochs = self.config.epochs
        epoch, step = divmod(self.done_steps, self.steps_per_epoch)
        start = f"resumed from {self.checkpoint}, after epoch {epoch}" + (
            f" and {step} steps" if step else ""
        )
        gpu = f"; GPU {_megabytes(self.gpu_memory_bytes)}" if self.gpu_memory_bytes else ""
        limit = f"of which the cache keeps at most {self.config.cache_disk_gb:g} GB"
        stored = [("clip cache", f"{_megabytes(self.clip_cache_bytes)} on disk until the training ends")]
        remote = [("download", f"{_megabytes(self.download_bytes)} of shards, {limit}")]
        lines = [
            ("run", f"{self.run}: {start if self.done_steps else 'a new run'}"),
            *([("used by", f"{self.used_by}: training would be refused")] if self.used_by else []),
            ("dataset", f"{self.data}: {self.train_clips:,} training and {self.test_clips:,} test clips"),
            ("model", f"{self.config.preset}, {self.parameters:,} parameters"),
            ("devices", f"{self.replicas} replica(s) on {self.device}"),
            (
                "steps",
                f"{self.steps_per_epoch:,} per epoch, {self.remaining_steps:,} remaining of {epochs} epochs",
            ),
            (
                "time",
                f"{format_duration(self.remaining_secs) or 'none'}: {self.step_secs * 1_000:,.0f} ms per step, "
                f"{format_duration(self.epoch_secs)} per epoch, of which evaluation {self.evaluation_secs:.1f} s and "
                f"samples {self.samples_secs:.1f} s; the clips and the report at the end come on top",
            ),
            (
                "disk",
                f"{_megabytes(self.disk_bytes)}: {self.config.checkpoints_to_keep} + 1 checkpoints of "
                f"{_megabytes(self.checkpoint_bytes)}, 2 of the best epoch of {_megabytes(self.weights_bytes)}, "
                f"{_megabytes(self.samples_bytes)} of samples per epoch",
            ),
            *(stored if self.clip_cache_bytes else []),
            *(remote if self.download_bytes else []),
            ("memory", f"{_megabytes(self.memory_bytes)}{gpu}"),
        ]
        text = "\n".join(f"{name:<12}{value}" for name, value in lines)
        return f"{text}\n\nconfiguration, as a file for --config:\n{settings_yaml(self.config)}".rstrip()


def dry_run(data: str, run: str, given: dict[str, Any], replicas: int | None) -> Plan:
    """Check a training's arguments as `train_and_evaluate` does, and estimate what it takes.

    The steps are timed on noise of the dataset's format: no shard is fetched or read.

    Args:
        data: A dataset directory, local or `gs://`.
        run: The run directory, local or `gs://`; it need not exist.
        given: The fields of the configuration that the user sets.
        replicas: Devices to use; None: all GPUs, or one CPU if there are none.

    Raises:
        CommandError: As `train_and_evaluate`: wrong usage or configuration (2), no dataset (3), storage failed (4).
    """
    dataset_uri, manifest = find_dataset_of_run(run, data)
    check_is_run(run)
    distribution = Distribution(None, replicas)
    config = resolve_config(run, data, manifest, given, distribution.workers)
    check_replicas(config, distribution)
    checkpoint = newest_checkpoint(StorageFolder(run).read(POINTER) or b"")
    measured = _measure(config, manifest, distribution, data)
    steps_per_epoch = input_pipeline.count_steps(manifest, config)
    done_steps = int(checkpoint.rpartition("-")[2]) if checkpoint else 0
    clip_memory = _clip_memory_bytes(config, manifest, *divmod(done_steps, steps_per_epoch))
    return Plan(
        run=run,
        data=data,
        config=config,
        replicas=distribution.strategy.num_replicas_in_sync,
        train_clips=manifest.clip_count("train"),
        test_clips=manifest.clip_count("test"),
        steps_per_epoch=steps_per_epoch,
        done_steps=done_steps,
        checkpoint=checkpoint,
        used_by=lease.holder(run),
        download_bytes=_download_bytes(manifest) if is_remote(dataset_uri) else 0,
        clip_cache_bytes=decoded_bytes(manifest, SPLITS) if fits_on_disk(manifest, config) else 0,
        **measured | {"memory_bytes": measured["memory_bytes"] + clip_memory},
    )


def _measure(config: Config, manifest: Manifest, distribution: Distribution, data: str) -> dict[str, Any]:
    """Time steps, an evaluation batch and the samples of an epoch; return the fields of `Plan` that come of it."""
    metadata = run_config.metadata_of(manifest, data)
    strategy = distribution.strategy
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    stages = Counter(stage_at(config, epoch) for epoch in range(config.epochs))
    steps = WARM_UP_STEPS + TIMED_STEPS
    with tqdm(total=steps * len(stages) + 4, desc="timing", unit=" steps", leave=False) as progress:

        def timed(call: Callable[[], Any]) -> float:
            started = time.monotonic()
            call()
            progress.update()
            return time.monotonic() - started

        state = TrainState(config, metadata, strategy)
        crops = _noise_batch(config.batch_size, input_pipeline.crop_length(config, manifest), manifest)
        (batch,) = distributed_iterator(tf.data.Dataset.from_tensors(crops), strategy)
        step_secs = 0.0
        for stage, epochs in stages.items():
            secs = [timed(partial(_train, state, batch, step, stage)) for step in range(steps)]
            step_secs += epochs / config.epochs * median(secs[WARM_UP_STEPS:])
        whole = _noise_batch(state.evaluation_clips, manifest.clip_samples, manifest)
        (whole_batch,) = distributed_iterator(tf.data.Dataset.from_tensors(whole), strategy)
        evaluation_secs = [timed(lambda: float(state.evaluation_step(whole_batch).kl)) for _ in range(2)]
        with tempfile.TemporaryDirectory() as temporary:
            # The first time, libraries are imported and fonts are found.
            samples_secs = [
                timed(lambda: _render(Path(temporary), state, manifest, metadata)) for _ in range(2)
            ]
            epoch_folders = (Path(temporary) / "samples").glob("epoch-*/*")
            samples_bytes = sum(path.stat().st_size for path in epoch_folders)
    splits = [manifest.clip_count(split) for split in ("validation", "test")]
    batches = sum(-(-clips // state.evaluation_clips) for clips in splits)
    return {
        "parameters": state.averaged.parameter_count(),
        "device": "GPU" if has_gpu else "CPU",
        "step_secs": step_secs,
        "evaluation_secs": batches * evaluation_secs[-1],
        "samples_secs": samples_secs[-1],
        "samples_bytes": 2 * samples_bytes,  # TensorBoard's events repeat them
        "checkpoint_bytes": _size(tf.train.Checkpoint(**state.trackables)),
        "weights_bytes": _size(tf.train.Checkpoint(model=state.averaged)),
        "memory_bytes": _peak_memory_bytes(),
        "gpu_memory_bytes": tf.config.experimental.get_memory_info("GPU:0")["peak"] if has_gpu else None,
    }


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


def _download_bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for split in SPLITS for shard in manifest.split_shards(split))


def _peak_memory_bytes() -> int:
    """Return this process's peak resident memory."""
    unit = 1 if sys.platform == "darwin" else 1_024  # getrusage(2): bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _clip_memory_bytes(config: Config, manifest: Manifest, done_epochs: int, done_steps: int) -> int:
    """Estimate the memory of the clips that the shuffle buffers hold; those that are stored are not in them.

    The epoch after which none follows, and the rest of one that is resumed, store no training clips.
    """
    stores_all = fits_on_disk(manifest, config) and config.epochs - done_epochs > 1 and not done_steps
    clips = 0 if stores_all else input_pipeline.shuffled_clips(manifest, config)
    return clips * manifest.clip_samples * SAMPLE_BYTES


def _megabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
