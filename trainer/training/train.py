"""Training, top to bottom: strategy, data, restore, epochs, evaluation, samples, checkpoint, report."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer import event_log, run_config
from trainer.config import Config
from trainer.data import dataset
from trainer.data.dataset import Clips
from trainer.data.fetch import fetch_shards, find_dataset
from trainer.data.input_pipeline import count_steps
from trainer.generation.generate import generate_all, write_clips
from trainer.generation.generator import Generator
from trainer.generation.options import Options
from trainer.generation.sources import fixed_test_clips
from trainer.reporting import report
from trainer.run_config import DatasetMetadata, RunConfig
from trainer.runs import rollbacks
from trainer.runs.directory import CHECKPOINTS, EVENTS, GENERATED, POINTER, REPORT, RunDirectory
from trainer.training import samples
from trainer.training.cluster import Cluster
from trainer.training.distribution import Distribution
from trainer.training.divergence import DivergedError
from trainer.training.history import History
from trainer.training.loop import TrainingLoop
from trainer.training.profiling import Profile, parse_range
from trainer.training.signals import stop_requests

SPLITS = ("train", "test")


def train_and_evaluate(
    data: str,
    run: str,
    given: dict,
    replicas: int | None,
    cache: Path,
    *,
    profile: str | None = None,
    cluster: Cluster | None = None,
    init_from: Path | None = None,
) -> str:
    """Trains the run to its last epoch, from its newest checkpoint if it has one.

    Args:
        data: A dataset directory, local or `gs://`.
        run: The run directory, local or `gs://`; created if it is new.
        given: The configuration's fields that the user set.
        replicas: Devices of this process to use; None means all GPUs, else one CPU.
        cache: Where remote data is kept.
        profile: The training steps to profile, as FIRST:LAST.
        cluster: The processes that train together; None: this one alone.
        init_from: A local run whose weights a new run begins with, of a model with the same shapes.

    Returns:
        Where the report is, below `run`.

    Raises:
        CommandError: Contradicting configuration or too few devices (2), bad or missing data (3), storage
            failed (4), stopped on request or by another worker's end (75).
    """
    profiled = parse_range(profile) if profile else range(0)
    distribution = Distribution(cluster, replicas)
    home, manifest = find_dataset(data)
    with (
        distribution.peer_failure_guard(),
        _run_directory(run, cache, distribution) as directory,
        stop_requests() as stop,
    ):
        path = directory.path
        with _damage_named(data):
            config = _agree_on_config(path, data, manifest, given, distribution)
            _refuse_long_profile(profiled, config, manifest)
            numbers = distribution.input_shards_of_worker(config.input_shards)
            used = dataset.shards_of(manifest, numbers, config.input_shards)
            folder = fetch_shards(home, manifest, used, cache)
            metadata = run_config.metadata_of(manifest, data)
            if distribution.is_chief:
                run_config.save(RunConfig(config, metadata), path)
            input_shards, test_clips = _open_splits(folder, manifest, config, numbers)
            trained = False
            while True:
                recorded = Profile(profiled, path / EVENTS) if profiled else None
                with TrainingLoop(
                    config, metadata, distribution, path, stop, directory.commit, recorded, init_from
                ) as loop:
                    try:
                        _greet(run, loop, init_from)
                        trained |= _train(loop, manifest, input_shards, test_clips)
                        break
                    except DivergedError as error:
                        loop.finish_saving()
                        _go_back(loop, error)
        if distribution.is_chief:
            _make_music_and_report(loop, metadata, trained)
        distribution.any_worker(
            True
        )  # the others wait for the chief: a worker that ends would look like one that died
    return f"{run.rstrip('/')}/{REPORT}"


@contextlib.contextmanager
def _run_directory(run: str, cache: Path, distribution: Distribution) -> Iterator[RunDirectory]:
    """The run's own for the chief; the others keep nothing."""
    if distribution.is_chief:
        with RunDirectory(run, cache) as directory:
            yield directory
    else:
        with tempfile.TemporaryDirectory() as nowhere, RunDirectory(nowhere, cache) as directory:
            yield directory


def _open_splits(
    folder: Path, manifest: Manifest, config: Config, numbers: range
) -> tuple[list[Clips], Clips]:
    """The streams `numbers` of the training split, and the test split; in memory where they fit."""
    input_shards = [
        dataset.open_split(folder, manifest, "train", number, config.input_shards) for number in numbers
    ]
    test_clips = dataset.open_split(folder, manifest, "test")
    if dataset.fits_in_memory(manifest, SPLITS, config.cache_mb):
        return [dataset.cache_in_memory(clips) for clips in input_shards], dataset.cache_in_memory(test_clips)
    return input_shards, test_clips


def _train(loop: TrainingLoop, manifest: Manifest, input_shards: list[Clips], test_clips: Clips) -> bool:
    """Every epoch that is left; returns whether there was one."""
    left = range(loop.position.epoch + 1, loop.config.epochs + 1)
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(_record(loop, manifest, test_clips)) if loop.is_chief else None
        for epoch in left:
            row = loop.train_epoch(input_shards, manifest)
            row |= loop.evaluate(test_clips)
            if record:
                record(epoch, row)
            loop.finish_epoch()
    loop.finish_saving()
    return bool(left)


@contextlib.contextmanager
def _record(
    loop: TrainingLoop, manifest: Manifest, test_clips: Clips
) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """What an epoch leaves in the run: its row of figures, sounds and pictures."""
    path, model = loop.path, loop.model
    fixed = samples.choose(path, test_clips, model, loop.config, manifest)
    with History(path, loop.position.epoch) as history:
        yield lambda epoch, row: history.add(row, samples.render_epoch(path, fixed, model, manifest, epoch))


def _make_music_and_report(loop: TrainingLoop, metadata: DatasetMetadata, trained: bool) -> None:
    path = loop.path
    samples.render_training_gif(path)
    if trained or not (path / GENERATED).exists():
        generator = Generator(loop.model, metadata, path)
        options = Options(count=loop.config.sample_clips)
        generated = list(generate_all(generator, fixed_test_clips(path), options))
        write_clips(path / GENERATED, generated, metadata.sample_rate_hz)
    parameters = loop.model.parameter_count()
    report.write_report(path, note=loop.model.caveat, parameters=parameters)


def _go_back(loop: TrainingLoop, error: DivergedError) -> None:
    """Notes a roll-back: the next trainer starts from the newest checkpoint, with a lower learning rate.

    Raises:
        CommandError: There were as many as the configuration allows (exit code 2).
    """
    config, path = loop.config, loop.path
    earlier = rollbacks.read(path)
    newest = tf.train.latest_checkpoint(str(path / CHECKPOINTS))
    to_step = int(newest.rsplit("-", 1)[1]) if newest else 0
    if len(earlier) >= config.max_rollbacks:
        raise CommandError(
            f"training diverged ({error}) after {len(earlier)} roll-backs: the run stays as it was at step "
            f"{to_step}; start a new --run with a lower --learning-rate",
            USAGE,
        ) from error
    rollbacks.add(path, rollbacks.Rollback(loop.steps, to_step, str(error)))
    rate = config.learning_rate * rollbacks.learning_rate_scale(path)
    event_log.log_event(
        "rollback",
        f"training diverged ({error}): back to step {to_step}, learning rate {rate:.2g}",
        event_log.WARNING,
        step=loop.steps,
        to_step=to_step,
        learning_rate=rate,
    )


def _agree_on_config(
    path: Path, data: str, manifest: Manifest, given: dict[str, Any], distribution: Distribution
) -> Config:
    """The chief's configuration, by which all workers train.

    Raises:
        CommandError: It does not fit the flags, the data or the workers (exit code 2).
    """
    chiefs = (
        _resolve_config(path, data, manifest, given, distribution.workers) if distribution.is_chief else None
    )
    config = Config(**distribution.broadcast(dataclasses.asdict(chiefs) if chiefs else None))
    replicas = distribution.strategy.num_replicas_in_sync
    if config.batch_size < replicas:
        raise CommandError(f"--batch-size {config.batch_size} is less than the {replicas} replicas", USAGE)
    if config.input_shards % distribution.workers:
        raise CommandError(
            f"the {config.input_shards} input shards of the run cannot be divided among {distribution.workers} "
            "workers: train with as many workers as before, or with a divisor of that number",
            USAGE,
        )
    return config


def _resolve_config(path: Path, data: str, manifest: Manifest, given: dict[str, Any], workers: int) -> Config:
    """What a new run is given; a run that has a checkpoint keeps its own."""
    earlier = run_config.load(path) if (path / POINTER).exists() else None
    if earlier is None:
        given = {"input_shards": workers} | given
    config = run_config.resolve(given, earlier.config if earlier else None)
    metadata = run_config.metadata_of(manifest, data)
    if earlier and earlier.dataset.digest != metadata.digest:
        raise CommandError(
            f"--run was trained on the dataset {earlier.dataset.digest[:12]} ({earlier.dataset.uri}), "
            f"--data {data} is {metadata.digest[:12]}{_difference(metadata, earlier.dataset)}: use a new --run",
            USAGE,
        )
    return config


def _difference(metadata: DatasetMetadata, own: DatasetMetadata) -> str:
    """What keeps a model of one dataset from another; nothing where they only have other clips."""
    parts = []
    if (metadata.sample_rate_hz, metadata.clip_samples) != (own.sample_rate_hz, own.clip_samples):
        parts.append(
            f"clips of {metadata.clip_samples} samples at {metadata.sample_rate_hz} Hz, not {own.clip_samples} at "
            f"{own.sample_rate_hz} Hz"
        )
    if metadata.genres != own.genres:
        parts.append(f"the classes {', '.join(metadata.genres)}, not {', '.join(own.genres)}")
    if list(metadata.attributes) != list(own.attributes):
        parts.append(f"the attributes {', '.join(metadata.attributes)}, not {', '.join(own.attributes)}")
    return f" and has {' and '.join(parts)}" if parts else ""


@contextlib.contextmanager
def _damage_named(data: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.DataLossError as error:
        reason = error.message.splitlines()[0]
        raise CommandError(f"--data {data} is damaged ({reason}): preprocess again", BAD_DATA) from error


def _refuse_long_profile(steps: range, config: Config, manifest: Manifest) -> None:
    last = config.epochs * count_steps(manifest, config)
    if steps and steps[-1] > last:
        raise CommandError(f"--profile {steps[0]}:{steps[-1]}, but the run has {last} steps", USAGE)


def _greet(run: str, loop: TrainingLoop, warm: Path | None) -> None:
    config, position, strategy = loop.config, loop.position, loop.strategy
    parameters = loop.model.parameter_count()
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if not loop.is_chief:
        return
    where = f"epoch {position.epoch}" + (f" and {position.step} steps" if position.step else "")
    beginning = "from the beginning" if warm is None else f"from the weights of {warm}"
    start = f"resuming after {where}" if loop.steps else beginning
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
