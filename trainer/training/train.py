"""A training from start to end: devices, configuration, data, epochs, samples, report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing import event_log
from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import DataError, UsageError
from trainer import run_config
from trainer.config import Config
from trainer.data.input_pipeline import count_steps
from trainer.data.training_data import TrainingData
from trainer.generation.clip_files import write_clips
from trainer.generation.generator import Generator
from trainer.generation.modes import generate_all
from trainer.generation.options import Options
from trainer.generation.sources import fixed_test_clips
from trainer.reporting import report
from trainer.run_config import DatasetMetadata, RunConfig
from trainer.runs import checkpoints, rollbacks
from trainer.runs.directory import CHECKPOINTS, EVENTS, GENERATED, POINTER, REPORT, RunDirectory, steps_of
from trainer.training import samples
from trainer.training.configuration import agree_on_config, agree_on_dataset, ancestor_datasets
from trainer.training.divergence import DivergedError
from trainer.training.history import History
from trainer.training.loop import TrainingLoop
from trainer.training.profiling import Profile, parse_range
from trainer.training.signals import stop_requests
from trainer.training.tracking import Tracker, parse_target, tracked
from trainer.training.workers.cluster import Cluster
from trainer.training.workers.distribution import Distribution
from trainer.training.workers.gpus import log_devices


def train_and_evaluate(
    data: str,
    run: str,
    given: dict[str, Any],
    replicas: int | None,
    cache: Path,
    *,
    profile: str | None = None,
    cluster: Cluster | None = None,
    init_from: Path | None = None,
    track: str | None = None,
) -> str:
    """Train a run to its last epoch, from its newest checkpoint if it has one.

    Args:
        data: A dataset directory, local or `gs://`.
        run: The run directory, local or `gs://`; created if it does not exist.
        given: The fields of the configuration that the user sets.
        replicas: Devices of this process to use; None: all GPUs, or one CPU if there are none.
        cache: A local folder for remote data and decoded clips.
        profile: The training steps to profile, as FIRST:LAST.
        cluster: The workers; None: this process trains alone.
        init_from: A local run whose weights a new run starts from; its model must have weights of the same shapes.
        track: Where to track the run, as mlflow:URI; None: nowhere. A server that fails does not end the training.

    Returns:
        The path or URI of the report.

    Raises:
        CommandError: The configuration contradicts the run, or there are too few devices (2), data is corrupt or
            missing (3), storage failed (4), stopped on request or because another worker has ended (75).
    """
    profiled_steps = parse_range(profile) if profile else range(0)
    tracking_uri = parse_target(track) if track else None
    distribution = Distribution(cluster, replicas)
    with distribution.peer_failure_guard():
        dataset_uri, manifest = agree_on_dataset(run, data, distribution)
    log_devices(distribution.strategy.num_replicas_in_sync)
    with (
        distribution.peer_failure_guard(),
        _end_with_peers(distribution),
        _run_directory(run, cache, distribution) as directory,
        stop_requests() as stop,
        tracked(tracking_uri if distribution.is_chief else None, directory.path, run) as tracker,
    ):
        path = directory.path
        with _report_corruption(data):
            config = agree_on_config(path, data, manifest, given, distribution)
            _check_profile(profiled_steps, config, manifest)
            metadata = run_config.metadata_of(manifest, data)
            numbers = distribution.input_shards_of_worker(config.input_shards)
            with TrainingData(dataset_uri, manifest, config, numbers, cache) as clips:
                if distribution.is_chief and not (path / POINTER).exists():
                    clips.source.start()  # while the model is built

                def make_loop() -> TrainingLoop:
                    recorder = Profile(profiled_steps, path / EVENTS) if profiled_steps else None
                    return TrainingLoop(
                        config, metadata, distribution, path, stop, directory.commit, recorder, init_from
                    )

                def start(loop: TrainingLoop) -> None:
                    if loop.is_chief:
                        _save_config(loop, metadata, init_from)
                        _log_start(run, loop, init_from)

                loop, trained = _train_with_rollbacks(make_loop, start, clips, metadata, tracker)
        if distribution.is_chief:
            _generate_and_report(loop, metadata, trained)
    return f"{run.rstrip('/')}/{REPORT}"


def _save_config(loop: TrainingLoop, metadata: DatasetMetadata, init_from: Path | None) -> None:
    """Write `config.json`. A finished run keeps the program that trained it."""
    config, path = loop.config, loop.path
    saved = run_config.load(path) if loop.steps else None
    run = RunConfig(config, metadata, ancestor_datasets(path, init_from))
    if saved and loop.position.epoch >= config.epochs:
        run = dataclasses.replace(run, program=saved.program)
    run_config.save(run, path)


@contextlib.contextmanager
def _end_with_peers(distribution: Distribution) -> Iterator[None]:
    """After the block, wait until all workers have ended theirs.

    One that ends earlier would look like one that died, and a chief that is killed in its last upload would wait for
    it in vain when it starts again.
    """
    yield
    distribution.any_worker(True)


@contextlib.contextmanager
def _run_directory(run: str, cache: Path, distribution: Distribution) -> Iterator[RunDirectory]:
    """Open the run directory for the chief, and a temporary one for every other worker."""
    if distribution.is_chief:
        with RunDirectory(run, cache) as directory:
            yield directory
    else:
        with tempfile.TemporaryDirectory() as temporary, RunDirectory(temporary, cache) as directory:
            yield directory


def _train_with_rollbacks(
    make_loop: Callable[[], TrainingLoop],
    start: Callable[[TrainingLoop], None],
    clips: TrainingData,
    metadata: DatasetMetadata,
    tracker: Tracker | None,
) -> tuple[TrainingLoop, bool]:
    """Train, from the newest checkpoint again whenever training diverges.

    Returns:
        The loop that reached the last epoch, closed, and whether there was anything to train.
    """
    while True:
        with make_loop() as loop:
            try:
                start(loop)
                return loop, _train(loop, clips, metadata, tracker)
            except DivergedError as error:
                loop.finish_saving()
                _roll_back(loop, error)


def _train(
    loop: TrainingLoop, clips: TrainingData, metadata: DatasetMetadata, tracker: Tracker | None
) -> bool:
    """Train the remaining epochs; return False if there are none."""
    remaining = range(loop.position.epoch + 1, loop.config.epochs + 1)
    with contextlib.ExitStack() as stack:
        record = None
        if loop.is_chief:
            record = stack.enter_context(_epoch_recorder(loop, clips, metadata, tracker))
        for epoch in remaining:
            row = loop.train_epoch(clips)
            row |= loop.evaluate(clips)
            if record:
                record(epoch, row)
            loop.finish_epoch()
    loop.finish_saving()
    return bool(remaining)


@contextlib.contextmanager
def _epoch_recorder(
    loop: TrainingLoop, clips: TrainingData, metadata: DatasetMetadata, tracker: Tracker | None
) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Yield a function that writes the metrics and samples of an epoch to the run, and the weights of the best one."""
    path, model, manifest = loop.path, loop.model, clips.manifest

    @functools.cache
    def fixed_samples() -> samples.FixedSamples:
        # After the first epoch, so that training does not wait for test clips.
        return samples.choose_samples(path, clips.load_test_clips_at, loop.config, manifest)

    with History(path, loop.position.epoch, tracker) as history:

        def record(epoch: int, row: dict[str, float]) -> None:
            if history.is_best(row):
                checkpoints.write_best(model, path / CHECKPOINTS, epoch)
            history.add(row, samples.render_epoch(path, fixed_samples(), model, metadata, epoch))

        yield record


def _generate_and_report(loop: TrainingLoop, metadata: DatasetMetadata, trained: bool) -> None:
    """Generate clips, unless nothing was trained and the run has some, and write the report."""
    path = loop.path
    checkpoint = checkpoints.restore_for_inference(loop.model, path, loop.config) or ""
    samples.render_training_gif(path)
    if trained or not (path / GENERATED).exists():
        generator = Generator(loop.model, metadata, path, checkpoint)
        options = Options(count=loop.config.sample_clips)
        generated = list(generate_all(generator, fixed_test_clips(path), options))
        write_clips(path / GENERATED, generated, metadata.sample_rate_hz)
    parameters = loop.model.parameter_count()
    report.write_report(path, note=loop.model.caveat, parameters=parameters)


def _roll_back(loop: TrainingLoop, error: DivergedError) -> None:
    """Record a rollback: the next loop starts from the newest checkpoint, with a lower learning rate.

    Raises:
        CommandError: The configuration allows no more rollbacks (exit code 2).
    """
    config, path = loop.config, loop.path
    earlier = rollbacks.read(path)
    newest = tf.train.latest_checkpoint(str(path / CHECKPOINTS))
    to_step = steps_of(newest) if newest else 0
    if len(earlier) >= config.max_rollbacks:
        count = f"{len(earlier)} rollback{'' if len(earlier) == 1 else 's'}"
        raise UsageError(
            f"training diverged ({error}) after {count}: the run stays at step {to_step}; train a new one with a "
            "lower `learning_rate`",
        ) from error
    rollbacks.add(path, rollbacks.Rollback(loop.steps, to_step, str(error)))
    scale = rollbacks.learning_rate_scale(path)
    event_log.log_event(
        "rollback",
        f"training diverged ({error}): rolling back to step {to_step}, with {scale:.2g} of the learning rate",
        event_log.WARNING,
        step=loop.steps,
        to_step=to_step,
        learning_rate_scale=scale,
    )


@contextlib.contextmanager
def _report_corruption(data: str) -> Iterator[None]:
    """Turn TensorFlow's error about a corrupt record into one that names the dataset (exit code 3)."""
    try:
        yield
    except tf.errors.DataLossError as error:
        reason = error.message.splitlines()[0]
        raise DataError(f"`data` {data} is corrupt ({reason}): preprocess again") from error


def _check_profile(steps: range, config: Config, manifest: Manifest) -> None:
    """Reject a profile of steps that the run does not have (exit code 2)."""
    last = config.epochs * count_steps(manifest, config)
    if steps and steps[-1] > last:
        raise UsageError(f"`profile` {steps[0]}:{steps[-1]}, but the run has {last} steps")


def _log_start(run: str, loop: TrainingLoop, init_from: Path | None) -> None:
    config, position, strategy = loop.config, loop.position, loop.strategy
    parameters = loop.model.parameter_count()
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    progress = f"epoch {position.epoch}" + (f" and {position.step} steps" if position.step else "")
    weights = "random weights" if init_from is None else f"the weights of {init_from}"
    start = f"resuming after {progress}" if loop.steps else f"starting from {weights}"
    event_log.log_event(
        "start",
        f"{run}: {config.preset}, {parameters:,} parameters, {strategy.num_replicas_in_sync} "
        f"replica(s) on {devices}, {config.epochs} epochs, {start}",
        run=run,
        preset=config.preset,
        parameters=parameters,
        replicas=strategy.num_replicas_in_sync,
        epochs=config.epochs,
        epoch=position.epoch,
        step=loop.steps,
    )
