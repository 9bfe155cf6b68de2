"""The reference model, which every evaluation compares a run with."""

from __future__ import annotations

from pathlib import Path

from preprocessing.errors import DataError, UsageError
from trainer.evaluation.options import Options
from trainer.generation.generator import Generator
from trainer.generation.load import load
from trainer.presets import BASELINE_PRESET
from trainer.training.train import train_and_evaluate

BASELINE_EPOCHS = 5
MAX_BASELINE_SAMPLES = 200_000  # of a clip: at 90,001, the model has 12 million weights


def load_reference(run: str, data: str, options: Options, cache: Path, clip_samples: int) -> Generator | None:
    """Load a run of the reference model, or train one beside `run`; None where it would be too large.

    Raises:
        CommandError: See `trainer.generation.load.load` and `train_and_evaluate`.
    """
    baseline_run = options.baseline_run or f"{run.rstrip('/')}-{BASELINE_PRESET}"
    try:
        return load(baseline_run, cache=cache)
    except DataError:
        if options.baseline_run:
            raise
    if clip_samples > MAX_BASELINE_SAMPLES:
        print(
            f"the baseline, preset {BASELINE_PRESET}, is left out: it has weights for each of the "
            f"{clip_samples:,} samples of a clip; --baseline-run names a trained one"
        )
        return None
    print(
        f"{baseline_run}: training the baseline, preset {BASELINE_PRESET}; --baseline-run names a trained one"
    )
    try:
        train_and_evaluate(
            data, baseline_run, {"preset": BASELINE_PRESET, "epochs": BASELINE_EPOCHS}, None, cache
        )
    except UsageError as error:  # diverged: the last checkpoint serves as the baseline
        print(error.for_command_line())
    return load(baseline_run, cache=cache)
