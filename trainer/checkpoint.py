"""A run's checkpoints: written whole or not at all, and restored from the newest that is whole."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from preprocessing.errors import BAD_DATA, CommandError

NAME = "step"  # files are step-850.index and so on, by the optimizer's steps
# TensorFlow's bindings turn a file that is too short into an IndexError.
DAMAGE = (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.OutOfRangeError, IndexError)


def restore_newest(checkpoint: tf.train.Checkpoint, folder: Path) -> bool:
    """Fills every object of `checkpoint`; False if the folder has no checkpoint yet.

    One that is damaged (TensorFlow keeps a checksum of every tensor) is left out, with a warning, and the one
    before it is taken.

    Raises:
        CommandError: All are missing or damaged, or of another model (exit code 3).
    """
    pointer, written = folder / "checkpoint", len(list(folder.glob(f"{NAME}-*.index")))
    # One checkpoint without a pointer is a first one that was killed between the two; more are a loss.
    if not pointer.exists() and written <= 1:
        return False
    state = tf.train.get_checkpoint_state(str(folder))
    if state is None:
        raise CommandError(f"{pointer} does not name a checkpoint that is there: restore its files", BAD_DATA)
    damage = ""
    for path in dict.fromkeys([state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)]):
        try:
            checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
        except DAMAGE as error:
            reason = str(error).strip().splitlines()[0][:200]
            damage = damage or f"{path} is damaged ({reason})"
            tqdm.write(f"warning: {path} is damaged: taking the one before it")
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CommandError(
                f"{path} is of another model ({reason}): use its own --run", BAD_DATA
            ) from error
        else:
            return True
    raise CommandError(f"{damage}, and none before it is whole: restore its files", BAD_DATA)
