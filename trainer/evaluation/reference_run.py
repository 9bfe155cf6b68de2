"""The reference model, which every evaluation compares a run with."""

from __future__ import annotations

from pathlib import Path

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import UsageError
from trainer.evaluation.options import Options
from trainer.generation.generator import Generator
from trainer.generation.load import load_baseline
from trainer.presets import BASELINE_PRESET
from trainer.runs.status import all_epochs_trained
from trainer.runs.storage import StorageFolder
from trainer.training.divergence import DivergedError
from trainer.training.train import train_and_evaluate

BASELINE_EPOCHS = 5
MAX_BASELINE_SAMPLES = 200_000  # of a clip: at 90,001, the model has 12 million weights


def load_reference(
    run: str, generator: Generator, data: str, options: Options, cache: Path
) -> Generator | None:
    """Load a run of the reference model, or train one beside `run`; None where it would be too large.

    Args:
        run: The run that is evaluated.
        generator: Its model.
        data: The dataset directory.
        options: Of the evaluation.
        cache: A local folder for remote data.

    Raises:
        CommandError: See `trainer.generation.load.load_baseline` and `train_and_evaluate`.
    """
    if options.baseline_run:
        return load_baseline(options.baseline_run, generator, cache)
    baseline_run = f"{run.rstrip('/')}-{BASELINE_PRESET}"
    if not all_epochs_trained(baseline_run):
        if generator.clip_samples > MAX_BASELINE_SAMPLES:
            print(
                f"the baseline, preset {BASELINE_PRESET}, is left out: it has weights for each of the "
                f"{generator.clip_samples:,} samples of a clip; --baseline-run names a trained one"
            )
            return None
        print(
            f"{baseline_run}: training the baseline, preset {BASELINE_PRESET}; --baseline-run names a trained one"
        )
        _train(data, baseline_run, cache)
    return load_baseline(baseline_run, generator, cache)


def _train(data: str, baseline_run: str, cache: Path) -> None:
    """Train the reference model, or the rest of a training that was stopped."""
    is_new = StorageFolder(baseline_run).updated(CONFIG_NAME) is None
    settings = {"preset": BASELINE_PRESET, "epochs": BASELINE_EPOCHS} if is_new else {}
    try:
        train_and_evaluate(data, baseline_run, settings, None, cache)
    except UsageError as error:
        if not isinstance(error.__cause__, DivergedError):
            raise
        print(error.for_command_line())  # the last checkpoint serves as the baseline
