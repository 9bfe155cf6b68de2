"""Load a trained run for generation."""

from __future__ import annotations

import hashlib
from pathlib import Path

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError, UsageError
from trainer import run_config
from trainer.config import BEST, CHECKPOINT_CHOICES
from trainer.generation.generator import Generator
from trainer.models import make_model
from trainer.runs.checkpoints import restore_for_inference
from trainer.runs.directory import CHECKPOINTS, fetch_run
from trainer.runs.storage import default_cache


def load(run: str | Path, checkpoint: str = BEST, cache: Path | None = None) -> Generator:
    """Load a checkpoint of a run. See `trainer.load`."""
    if checkpoint not in CHECKPOINT_CHOICES:
        choices = " or ".join(CHECKPOINT_CHOICES)
        raise UsageError(f"`checkpoint` must be {choices}, not {checkpoint}")
    path = fetch_run(str(run), cache or default_cache())
    described = run_config.load(path)
    if described is None:
        raise DataError(f"`run` {run} has no {CONFIG_NAME}: train there first")
    model = make_model(described.config, described.dataset)
    name = restore_for_inference(model, path, described.config, checkpoint)
    if name is None:
        raise DataError(f"`run` {run} has no checkpoint yet: train at least one epoch")
    return Generator(model, described.dataset, path, name, _sha256(path, name))


def load_baseline(run: str, generator: Generator, cache: Path) -> Generator:
    """Load a run with which another one is compared.

    Args:
        run: The baseline, a run of any preset.
        generator: The model that is compared with it.
        cache: A local folder for copies of remote runs.

    Raises:
        CommandError: Its clips are of another rate or length (exit code 2), or there is no run (3).
    """
    try:
        baseline = load(run, cache=cache)
    except DataError as error:
        raise DataError(f"`baseline_run` {run}: {error}") from error
    same_length = baseline.model.capabilities.any_length or baseline.clip_samples == generator.clip_samples
    if baseline.sample_rate_hz != generator.sample_rate_hz or not same_length:
        raise UsageError(f"`baseline_run` {run} makes clips of another sample rate or length than `run`")
    return baseline


def _sha256(path: Path, checkpoint: str) -> str:
    """Return the SHA-256 of the files of a checkpoint that was just read: a training may delete them at any time."""
    files = sorted((path / CHECKPOINTS).glob(f"{checkpoint}.*"))
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(file.read_bytes())
    except FileNotFoundError:
        files = []
    if not files:
        raise DataError(f"`run` {path} has replaced its checkpoint {checkpoint} while it was read: try again")
    return digest.hexdigest()
