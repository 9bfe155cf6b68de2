"""Check the arguments of a training and plan it, without fetching, reading or writing clips."""

from __future__ import annotations

from typing import Any

from preprocessing.dataset.manifest import Manifest
from preprocessing.storage import lease
from trainer.config import Config
from trainer.data import input_pipeline
from trainer.data.clip_store import SAMPLE_BYTES, decoded_bytes
from trainer.data.training_data import SPLITS, fits_on_disk
from trainer.runs.directory import POINTER, check_is_run, newest_checkpoint, steps_of
from trainer.runs.storage import StorageFolder, is_remote
from trainer.training.configuration import check_replicas, find_dataset_of_run, resolve_config
from trainer.training.planning.measure import measure
from trainer.training.planning.plan import Plan
from trainer.training.workers.distribution import Distribution


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
    steps_per_epoch = input_pipeline.count_steps(manifest, config)
    done_steps = steps_of(checkpoint) if checkpoint else 0
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
        held_clips_bytes=_held_clips_bytes(config, manifest, *divmod(done_steps, steps_per_epoch)),
        measured=measure(config, manifest, distribution, data),
    )


def _download_bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for split in SPLITS for shard in manifest.split_shards(split))


def _held_clips_bytes(config: Config, manifest: Manifest, done_epochs: int, done_steps: int) -> int:
    """Estimate the memory of the clips that the shuffle buffers hold; those that are stored are not in them.

    The epoch after which none follows, and the rest of one that is resumed, store no training clips.
    """
    stores_all = fits_on_disk(manifest, config) and config.epochs - done_epochs > 1 and not done_steps
    clips = 0 if stores_all else input_pipeline.shuffled_clips(manifest, config)
    return clips * manifest.clip_samples * SAMPLE_BYTES
