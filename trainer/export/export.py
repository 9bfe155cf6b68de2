"""The command `export`: a SavedModel and `metadata.json`, which describes it."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from preprocessing.errors import UsageError
from preprocessing.storage.atomic import write_atomically
from trainer.export.signatures import Signature, make_signatures
from trainer.generation.generator import Generator
from trainer.generation.load import load
from trainer.run_config import this_program
from trainer.runs.storage import GcsPrefix, StorageFolder, is_remote

METADATA_NAME = "metadata.json"
SAVED_MODEL = "saved_model.pb"  # TensorFlow recognizes a model by this file
OUTPUT_FILES = (
    METADATA_NAME,
    SAVED_MODEL,
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)


def export(run: str, output: str, checkpoint: str, cache: Path) -> list[str]:
    """Write the model of a run as a SavedModel that needs TensorFlow only.

    Args:
        run: A run or a folder of models, local or `gs://`.
        output: A folder, local or `gs://`; an earlier export in it is replaced, other files stay.
        checkpoint: One of `CHECKPOINT_CHOICES`.
        cache: A local folder for copies of remote runs.

    Returns:
        The names of the signatures.

    Raises:
        CommandError: `output` has files of these names that were not exported (exit code 2), there is no run or no
            checkpoint (3), or storage failed (4).
    """
    _check_output(output)
    generator = load(run, checkpoint, cache)
    signatures = make_signatures(generator)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _save(generator, signatures, folder)
        metadata = json.dumps(describe(run, generator, signatures), indent=2)
        (folder / METADATA_NAME).write_text(metadata + "\n")
        _publish(folder, output)
    return list(signatures)


def describe(run: str, generator: Generator, signatures: dict[str, Signature]) -> dict[str, Any]:
    """Return the content of `metadata.json`."""
    dataset = generator.metadata
    return {
        "program": this_program(),
        "run": run,
        "checkpoint": generator.checkpoint,
        "checkpoint_sha256": generator.checkpoint_sha256,
        "tensorflow": tf.__version__,
        "sample_rate_hz": dataset.sample_rate_hz,
        "clip_samples": dataset.clip_samples,
        "genres": dataset.genres,
        "attributes": {name: dataclasses.asdict(values) for name, values in dataset.attributes.items()},
        "keys": dataset.keys,
        "conditional": generator.model.capabilities.conditional,
        "modes": generator.model.capabilities.modes,
        "signatures": {name: signature.to_dict() for name, signature in signatures.items()},
    }


def _check_output(output: str) -> None:
    """Raise if the folder has a file of an exported model's name, but no exported model (exit code 2)."""
    folder = StorageFolder(output)
    found = next((name for name in OUTPUT_FILES if folder.updated(name)), None)
    if found and b'"checkpoint_sha256"' not in (folder.read(METADATA_NAME) or b""):
        raise UsageError(
            f"`output`: {output}/{found} was not written by an export: move it away, or name another folder",
        )


def _save(generator: Generator, signatures: dict[str, Signature], folder: Path) -> None:
    # Not the model itself: Keras would trace its `call`, which these models do not have.
    module = tf.Module()
    module.weights = list(generator.model.variables)
    with tqdm(total=len(signatures) + 1, desc="exporting", unit=" signatures", leave=False) as progress:
        traced = {}
        for name, signature in signatures.items():
            traced[name] = signature.trace()
            progress.update()
        tf.saved_model.save(module, str(folder), signatures=traced)
        progress.update()


def _publish(folder: Path, output: str) -> None:
    """Move the files to the output: first what marks it as an export, last what TensorFlow recognizes a model by.

    So an interrupted export can be repeated, and nobody loads half of a model.
    """
    StorageFolder(output).delete(SAVED_MODEL)
    weights = [name for name in OUTPUT_FILES if name not in (METADATA_NAME, SAVED_MODEL)]
    for names in ([METADATA_NAME], weights, [SAVED_MODEL]):
        if is_remote(output):
            GcsPrefix(output).upload(names, folder)
            continue
        for name in names:
            target = Path(output) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, (folder / name).read_bytes())
