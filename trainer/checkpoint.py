"""Restoring a run's newest checkpoint whole, or saying in one sentence why it cannot be."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from preprocessing.errors import BAD_DATA, CommandError

NAME = "epoch"  # files are epoch-7.index and so on


def restore_newest(checkpoint: tf.train.Checkpoint, folder: Path) -> bool:
    """Fills every object of `checkpoint`; False if the folder has no checkpoint yet.

    Raises:
        CommandError: The checkpoint is missing, damaged, or of another model (exit code 3).
    """
    pointer, written = folder / "checkpoint", len(list(folder.glob(f"{NAME}-*.index")))
    # One checkpoint without a pointer is a first epoch that was killed between the two; more are a loss.
    if not pointer.exists() and written <= 1:
        return False
    newest = tf.train.latest_checkpoint(str(folder))
    if newest is None:
        raise CommandError(f"{pointer} does not name a checkpoint that is there: restore its files", BAD_DATA)
    try:
        checkpoint.restore(newest).assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        remedy = f"name an older one in {pointer}"
        message = f"{newest} is damaged or of another model ({reason}): {remedy}"
        raise CommandError(message, BAD_DATA) from error
    return True
