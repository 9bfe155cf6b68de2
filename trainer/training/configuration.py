"""The configuration and the dataset of a run: the same on all workers, and when the run is resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from preprocessing import event_log
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError, UsageError
from trainer import run_config
from trainer.config import Config
from trainer.data.fetch import find_dataset
from trainer.presets import check_sample_rate
from trainer.run_config import DatasetMetadata, RunConfig
from trainer.runs.directory import POINTER
from trainer.runs.storage import StorageFolder
from trainer.training.workers.distribution import Distribution


def find_dataset_of_run(run: str, data: str) -> tuple[str, Manifest]:
    """Find the dataset of a run: of a folder of versions, the one that the run began with, as long as it is kept.

    Args:
        run: The run directory, local or `gs://`; it need not exist.
        data: As the user named the dataset.

    Returns and raises as `find_dataset`.
    """
    saved, newest = _saved(run), find_dataset(data)
    if saved is None or saved.dataset.digest == newest[1].digest:
        return newest
    found = find_dataset(data, saved.dataset.digest)
    if found[1].digest != newest[1].digest:
        event_log.log_event(
            "older_dataset",
            f"{data} has a newer version, {newest[1].digest[:12]}: {run} goes on with the one that it began with, "
            f"{found[1].digest[:12]}; for the newer one, train a new run",
            event_log.WARNING,
            digest=found[1].digest,
            newest=newest[1].digest,
        )
    return found


def agree_on_dataset(run: str, data: str, distribution: Distribution) -> tuple[str, Manifest]:
    """Find the dataset of a run on all workers: that of the chief, also if a job writes a newer version meanwhile.

    Args and returns as `find_dataset_of_run`.

    Raises:
        CommandError: As `find_dataset`, or a worker finds another dataset than the chief (exit code 3).
    """
    found = find_dataset_of_run(run, data) if distribution.is_chief else find_dataset(data)
    digest = distribution.broadcast(found[1].digest)
    if found[1].digest != digest:
        found = find_dataset(data, digest)
    if found[1].digest != digest:
        raise DataError(
            f"`data` {data} is {found[1].digest[:12]} on worker {distribution.index}, {digest[:12]} on worker 0: "
            "give all workers the same dataset"
        )
    return found


def agree_on_config(
    path: Path, data: str, manifest: Manifest, given: dict[str, Any], distribution: Distribution
) -> Config:
    """Resolve the configuration on the chief and broadcast it to all workers.

    Raises:
        CommandError: It contradicts the flags, the dataset or the number of workers (exit code 2).
    """
    resolved = None
    if distribution.is_chief:
        resolved = resolve_config(str(path), data, manifest, given, distribution.workers)
    config = Config(**distribution.broadcast(dataclasses.asdict(resolved) if resolved else None))
    check_replicas(config, distribution)
    if config.input_shards % distribution.workers:
        raise UsageError(
            f"the run's {config.input_shards} input shards cannot be divided evenly among {distribution.workers} "
            "workers: train with as many workers as before, or with a divisor of that number",
        )
    return config


def check_replicas(config: Config, distribution: Distribution) -> None:
    """Raise if a batch has too few examples for the replicas (exit code 2)."""
    replicas = distribution.strategy.num_replicas_in_sync
    if config.batch_size < replicas:
        raise UsageError(f"`batch_size` {config.batch_size} is less than the {replicas} replicas")


def resolve_config(run: str, data: str, manifest: Manifest, given: dict[str, Any], workers: int) -> Config:
    """Resolve the configuration of a new run from `given`, or of one with a checkpoint from its own.

    Args:
        run: The run directory, local or `gs://`.
        data: As the user named the dataset.
        manifest: Of the dataset.
        given: The fields that the user sets.
        workers: The default of `input_shards`.

    Raises:
        CommandError: A setting is invalid or contradicts the run, or the dataset is another (exit code 2).
    """
    saved = _saved(run)
    if saved is None:
        given = {"input_shards": workers} | given
    config = run_config.resolve(given, saved.config if saved else None)
    if saved is None:
        check_sample_rate(config, manifest.sample_rate_hz)
    metadata = run_config.metadata_of(manifest, data)
    if saved and saved.dataset.digest != metadata.digest:
        raise UsageError(
            f"`run` was trained on the dataset {saved.dataset.digest[:12]} ({saved.dataset.uri}), "
            f"`data` {data} is {metadata.digest[:12]}{_difference(metadata, saved.dataset)}: use a new `run`",
        )
    return config


def ancestor_datasets(path: Path, init_from: Path | None) -> tuple[str, ...]:
    """Return the digests of the datasets that a run's initial weights were trained on."""
    saved = _saved(str(path))
    if saved is not None:
        return saved.ancestor_datasets
    source = run_config.load(init_from) if init_from else None
    return source.descendant_datasets() if source else ()


def _saved(run: str) -> RunConfig | None:
    """Return the configuration of a run that has a checkpoint."""
    files = StorageFolder(run)
    content = files.read(CONFIG_NAME) if files.read(POINTER) is not None else None
    return run_config.parse(content, f"{run}/{CONFIG_NAME}") if content is not None else None


def _difference(metadata: DatasetMetadata, own: DatasetMetadata) -> str:
    """Describe in which formats two datasets differ; empty if they only have different clips."""
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
