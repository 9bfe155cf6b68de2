"""Load a trained run for generation."""

from __future__ import annotations

from pathlib import Path

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError, UsageError
from trainer import run_config
from trainer.config import BEST, CHECKPOINT_CHOICES
from trainer.generation.generator import Generator
from trainer.models import make_model
from trainer.runs.checkpoints import restore_for_inference
from trainer.runs.directory import fetch_run
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
    return Generator(model, described.dataset, path, name)
