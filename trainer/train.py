"""Training, top to bottom: strategy, data, restore, epochs, evaluation, samples, checkpoint, report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from preprocessing.manifest import Manifest
from trainer import config as configs
from trainer import dataset, report, rollbacks, samples
from trainer.config import Config, DatasetFacts, Run
from trainer.generate import Options, kept_clips, make_all, write
from trainer.history import History
from trainer.interrupt import stop_requests
from trainer.music import MusicMaker
from trainer.run_directory import CHECKPOINTS, GENERATED, POINTER, RunDirectory
from trainer.steps import DivergedError, Trainer
from trainer.storage import open_dataset


def train_and_evaluate(data: str, run: str, given: dict, replicas: int | None, cache: Path) -> str:
    """Trains the run to its last epoch, from its newest checkpoint if it has one.

    Args:
        data: A dataset directory, local or `gs://`.
        run: The run directory, local or `gs://`; created if it is new.
        given: The configuration's fields that the user set.
        replicas: Devices to use; None means all GPUs, else one CPU.
        cache: Where remote data is kept.

    Returns:
        Where the report is, below `run`.

    Raises:
        CommandError: Contradicting configuration or too few devices (2), bad or missing data (3), storage
            failed (4), stopped on request (75).
    """
    strategy = make_strategy(replicas)
    folder, manifest = open_dataset(data, cache)
    with RunDirectory(run, cache) as directory, stop_requests() as stop, _damage_named(data):
        path = directory.path
        train_clips = dataset.open_split(folder, manifest, "train")
        test_clips = dataset.open_split(folder, manifest, "test")
        config = _write_config(path, data, manifest, given, strategy.num_replicas_in_sync)
        facts = configs.facts_of(manifest, data)
        trained = False
        while True:
            trainer = Trainer(config, facts, strategy, path, stop, directory.commit)
            try:
                tqdm.write(_greeting(run, trainer))
                trained |= _train(trainer, manifest, train_clips, test_clips)
                break
            except DivergedError as error:
                _go_back(trainer, error)
        samples.render_training_gif(path)
        if trained or not (path / GENERATED).exists():
            music = MusicMaker(trainer.model, facts, path)
            made = make_all(music, kept_clips(music), Options(count=config.sample_clips))
            write(path / GENERATED, list(made), manifest.sample_rate_hz, Options())
        parameters = sum(int(tf.size(weights)) for weights in trainer.model.trainable_variables)
        report.write_report(path, note=trainer.model.caveat, parameters=parameters)
    return f"{run.rstrip('/')}/report.html"


def _train(
    trainer: Trainer, manifest: Manifest, train_clips: tf.data.Dataset, test_clips: tf.data.Dataset
) -> bool:
    """Every epoch that is left; returns whether there was one."""
    config, path = trainer.config, trainer.path
    fixed = samples.choose(path, test_clips, trainer.model, config, manifest)
    left = range(trainer.position.epoch + 1, config.epochs + 1)
    with History(path, trainer.position.epoch) as history:
        for epoch in left:
            row = trainer.train_epoch(train_clips, manifest)
            row |= trainer.evaluate(test_clips)
            history.add(row, samples.render_epoch(path, fixed, trainer.model, manifest, epoch))
            trainer.finish_epoch()
    return bool(left)


def _go_back(trainer: Trainer, error: DivergedError) -> None:
    """Notes a roll-back: the next trainer starts from the newest checkpoint, with a lower learning rate.

    Raises:
        CommandError: There were as many as the configuration allows (exit code 2).
    """
    config, path = trainer.config, trainer.path
    earlier = rollbacks.read(path)
    newest = tf.train.latest_checkpoint(str(path / CHECKPOINTS))
    to_step = int(newest.rsplit("-", 1)[1]) if newest else 0
    if len(earlier) >= config.max_rollbacks:
        raise CommandError(
            f"training diverged ({error}) after {len(earlier)} roll-backs: the run stays as it was at step "
            f"{to_step}; start a new --run with a lower --learning-rate",
            USAGE,
        ) from error
    rollbacks.add(path, rollbacks.Rollback(trainer.steps, to_step, str(error)))
    rate = config.learning_rate * rollbacks.learning_rate_scale(path)
    tqdm.write(f"warning: training diverged ({error}): back to step {to_step}, learning rate {rate:.2g}")


def make_strategy(replicas: int | None) -> tf.distribute.Strategy:
    """MirroredStrategy over `replicas` GPUs, or over as many logical CPUs where there is no GPU.

    Raises:
        CommandError: There are fewer GPUs than asked for (exit code 2).
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind, wanted = ("GPU", replicas or len(gpus)) if gpus else ("CPU", replicas or 1)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if kind == "CPU" and wanted > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * wanted
        # TensorFlow that is already running keeps the devices it has, which may be enough.
        with contextlib.suppress(RuntimeError):
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    there = len(tf.config.list_logical_devices(kind))
    if wanted > there:
        raise CommandError(f"--replicas {wanted}, but there are {there} {kind} devices", USAGE)
    # NCCL reduces on GPUs. On CPUs the default's collective ops cannot serve two runs of one process.
    reduction = None if kind == "GPU" else tf.distribute.ReductionToOneDevice()
    devices = [f"{kind}:{index}" for index in range(wanted)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def _write_config(path: Path, data: str, manifest: Manifest, given: dict[str, Any], replicas: int) -> Config:
    """`config.json`, before any work is done; a run that has a checkpoint keeps its own."""
    earlier = configs.load(path) if (path / POINTER).exists() else None
    config = configs.resolve(given, earlier.config if earlier else None)
    if config.batch_size < replicas:
        raise CommandError(f"--batch-size {config.batch_size} is less than the {replicas} replicas", USAGE)
    facts = configs.facts_of(manifest, data)
    if earlier and earlier.dataset.digest != facts.digest:
        raise CommandError(
            f"--run was trained on the dataset {earlier.dataset.digest[:12]} ({earlier.dataset.uri}), "
            f"--data {data} is {facts.digest[:12]}{_difference(facts, earlier.dataset)}: use a new --run",
            USAGE,
        )
    temporary = path / f"{configs.NAME}.tmp"
    temporary.write_text(Run(config, facts).to_json())
    temporary.replace(path / configs.NAME)
    return config


def _difference(facts: DatasetFacts, own: DatasetFacts) -> str:
    """What keeps a model of one dataset from another; nothing where they only have other clips."""
    parts = []
    if (facts.sample_rate_hz, facts.clip_samples) != (own.sample_rate_hz, own.clip_samples):
        parts.append(
            f"clips of {facts.clip_samples} samples at {facts.sample_rate_hz} Hz, not {own.clip_samples} at "
            f"{own.sample_rate_hz} Hz"
        )
    if facts.genres != own.genres:
        parts.append(f"the classes {', '.join(facts.genres)}, not {', '.join(own.genres)}")
    if list(facts.attributes) != list(own.attributes):
        parts.append(f"the attributes {', '.join(facts.attributes)}, not {', '.join(own.attributes)}")
    return f" and has {' and '.join(parts)}" if parts else ""


@contextlib.contextmanager
def _damage_named(data: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.DataLossError as error:
        reason = error.message.splitlines()[0]
        raise CommandError(f"--data {data} is damaged ({reason}): preprocess again", BAD_DATA) from error


def _greeting(run: str, trainer: Trainer) -> str:
    config, position, strategy = trainer.config, trainer.position, trainer.strategy
    parameters = sum(int(tf.size(weights)) for weights in trainer.model.trainable_variables)
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    where = f"epoch {position.epoch}" + (f" and {position.step} steps" if position.step else "")
    start = f"resuming after {where}" if trainer.steps else "from the beginning"
    return (
        f"{run}: {config.preset}, {parameters:,} parameters, {strategy.num_replicas_in_sync} "
        f"replica(s) on {devices}, {config.epochs} epochs, {start}"
    )
