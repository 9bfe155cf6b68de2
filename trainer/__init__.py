"""Train convolutional variational autoencoders on music, and generate music with them.

In a notebook:

    import trainer
    rows = trainer.train("data", "runs/wave", preset="wave", epochs=15)
    generator = trainer.load("runs/wave")
    clips = generator.sample(count=4, genre="jazz", seed=1)

`register_preset` and `register_model` add presets and models of one's own.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocessing.errors import CommandError, DataError, StoppedError, StorageError, UsageError
from trainer.config import Config
from trainer.models.architectures import register_model
from trainer.presets import register_preset
from trainer.tensorflow_setup import prepare_tensorflow

if TYPE_CHECKING:
    from trainer.generation.generator import Generator

__all__ = [
    "CommandError",
    "Config",
    "DataError",
    "StoppedError",
    "StorageError",
    "UsageError",
    "load",
    "register_model",
    "register_preset",
    "train",
]

prepare_tensorflow()
# Google's client libraries warn on import that they will stop supporting this version of Python.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


def load(run: str | Path, checkpoint: str = "best", cache: Path | None = None) -> Generator:
    """Load a trained run for generation. Imports TensorFlow, which takes seconds.

    Args:
        run: Run directory, or a folder of models, whose champion is loaded; local or `gs://`.
        checkpoint: "best", the weights after the last epoch of the second stage of training, or before that after the
            epoch with the highest ELBO on the validation split; or "newest". Runs without a validation split have
            only the newest.
        cache: Local folder for files fetched from `gs://`; None: `gtzan-cvae` in the temporary folder.

    Returns:
        The generator: `sample`, `reconstruct`, `interpolate` and so on return clips of shape
        `[clips, samples]`, float32 in [-1, 1] at `generator.sample_rate_hz`.

    Raises:
        UsageError: `checkpoint` is neither.
        DataError: `run` holds no run or no checkpoint yet.
        StorageError: Storage failed.
    """
    from trainer.generation.load import load

    return load(run, checkpoint, cache)


def train(
    data: str | Path,
    run: str | Path,
    preset: str | None = None,
    replicas: int | None = None,
    cache: Path | None = None,
    track: str | None = None,
    **settings: Any,
) -> list[dict[str, float]]:
    """Train a run, or resume it from its newest checkpoint. Shows progress; an interrupt saves a checkpoint.

    Args:
        data: Dataset directory of preprocessing, local or `gs://`.
        run: Run directory, local or `gs://`; created if it does not exist.
        preset: Name of a preset; None: that of the run, or "wave".
        replicas: Devices to train on; None: all GPUs, or one CPU.
        cache: Local folder on disk for files fetched from `gs://` and for decoded clips; None: `gtzan-cvae` in the
            temporary folder.
        track: Where to record the run, too, as mlflow:URI; None: nowhere.
        settings: Fields of `Config` that override the preset's, such as `epochs=3`.

    Returns:
        The metrics of each epoch: "epoch", "train_elbo", "test_elbo" (nats per clip), "test_snr_db" and so on.

    Raises:
        UsageError: A setting is unknown, out of range or contradicts the run; or MLflow is missing.
        DataError: The dataset is missing or corrupt.
        StorageError: Storage failed.
        StoppedError: Interrupted: the same call resumes the run.
    """
    from trainer.runs.metrics import read_metrics
    from trainer.runs.storage import default_cache
    from trainer.training.train import train_and_evaluate

    for name, place in (("data", data), ("run", run)):
        if isinstance(place, Path) and place.parts[:1] == ("gs:",):
            raise UsageError(f"`{name}` {place} is a path: give a place on gs:// as a string")
    if replicas is not None and replicas < 1:
        raise UsageError(f"`replicas` must be at least 1, not {replicas}")
    given = ({"preset": preset} if preset else {}) | settings
    train_and_evaluate(str(data), str(run), given, replicas, cache or default_cache(), track=track)
    return read_metrics(str(run))
