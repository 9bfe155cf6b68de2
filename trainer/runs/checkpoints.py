"""A run's checkpoints: written in the background, restored from the newest one that is intact.

Training continues while a checkpoint is written: a save copies every value, and a thread writes the copies.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing import event_log
from preprocessing.errors import DataError
from trainer.config import BEST, Config
from trainer.runs.directory import CHECKPOINTS, POINTER, STEP_PREFIX, best_checkpoint, is_left_over

AVERAGED = "averaged"  # name of the averaged weights in a checkpoint, beside `model`
# Raised for a corrupt checkpoint. TensorFlow's bindings turn a file that is too short into an IndexError.
CORRUPTION_ERRORS = (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.OutOfRangeError, IndexError)


def restore_newest(checkpoint: tf.train.Checkpoint, folder: Path) -> str | None:
    """Restore the newest checkpoint of a folder into the objects of `checkpoint`.

    A corrupt checkpoint, which the checksums of its tensors reveal, is skipped with a warning; the previous one is
    restored instead.

    Returns:
        The checkpoint's name, or None if the folder has no checkpoint yet.

    Raises:
        CommandError: All checkpoints are missing or corrupt, or one is of another model (exit code 3).
    """
    pointer, written = folder / "checkpoint", len(list(folder.glob(f"{STEP_PREFIX}-*.index")))
    # A kill between the first checkpoint and its pointer leaves one checkpoint without a pointer, but never two.
    if not pointer.exists() and written <= 1:
        return None
    state = tf.train.get_checkpoint_state(str(folder))
    if state is None:
        raise DataError(f"{pointer} does not name an existing checkpoint: restore its files")
    first_error = ""
    for path in dict.fromkeys([state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)]):
        reason = _restore(checkpoint.restore, path)
        if not reason:
            return Path(path).name
        first_error = first_error or f"{path} is corrupt ({reason})"
        event_log.log_event(
            "corrupt_checkpoint", f"{path} is corrupt: restoring the previous one", event_log.WARNING
        )
    raise DataError(f"{first_error}, and so are all earlier ones: restore its files")


def _restore(restore: Callable[[str], Any], path: str) -> str:
    """Restore all variables by `restore`; return why the checkpoint is corrupt, or an empty string.

    Raises:
        CommandError: The checkpoint is of another model (exit code 3).
    """
    try:
        restore(path).assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, IndexError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        # A damaged index is an `OpError` without a class of its own.
        if isinstance(error, CORRUPTION_ERRORS) or type(error) is tf.errors.OpError:
            return reason
        raise DataError(f"{path} is of another model ({reason}): use another `run`") from error
    return ""


def delete_left_overs(run: Path) -> None:
    """Delete what a kill has left of a local run's checkpoints: files that `POINTER` does not name, if there is one."""
    pointer = run / POINTER
    if not pointer.exists():
        return
    content = pointer.read_bytes()
    for path in (run / CHECKPOINTS).glob(f"{STEP_PREFIX}-*"):
        if is_left_over(path.relative_to(run).as_posix(), content):
            path.unlink()


def restore_for_inference(
    model: tf.keras.Model, run: Path, config: Config, checkpoint: str = BEST
) -> str | None:
    """Restore the weights for evaluation and generation: the averaged ones, if the run averages them.

    Args:
        model: Of the run.
        run: The local run directory.
        config: Of the run.
        checkpoint: `BEST` for those of the best epoch (`metrics.best_epoch`), or `NEWEST`. A run without a validation
            split, or before the end of its first epoch, has only the newest.

    Returns and raises as `restore_newest`.
    """
    if checkpoint == BEST and (name := restore_best(model, run / CHECKPOINTS)):
        return name
    part = AVERAGED if config.ema_decay else "model"
    return restore_newest(tf.train.Checkpoint(**{part: model}), run / CHECKPOINTS)


def write_best(model: tf.keras.Model, folder: Path, epoch: int) -> None:
    """Write the weights of the best epoch so far, and delete those of the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{BEST}-{epoch}"
    tf.train.Checkpoint(model=model).write(str(folder / name))
    for path in folder.glob(f"{BEST}-*"):
        if not path.name.startswith(f"{name}."):
            path.unlink()


def restore_best(model: tf.keras.Model, folder: Path) -> str | None:
    """Restore the weights of the best epoch; return the checkpoint's name, or None if there is no intact one."""
    name = best_checkpoint(path.name for path in folder.glob(f"{BEST}-*"))
    if name is None:
        return None
    path = str(folder / name)
    if _restore(tf.train.Checkpoint(model=model).read, path):
        if best_checkpoint(path.name for path in folder.glob(f"{BEST}-*")) != name:
            return restore_best(model, folder)  # a training has just replaced it
        event_log.log_event(
            "corrupt_checkpoint", f"{path} is corrupt: using the newest checkpoint", event_log.WARNING
        )
        return None
    return name


def epoch_of(run: Path, name: str) -> int:
    """Return the number of finished epochs of a checkpoint."""
    if name.startswith(BEST):
        return int(name.rpartition("-")[2])
    return int(tf.train.load_variable(str(run / CHECKPOINTS / name), "epoch/.ATTRIBUTES/VARIABLE_VALUE"))


def variables_of(checkpoint: tf.train.Checkpoint) -> list[tf.Variable]:
    """List all variables of a checkpoint in the order of their names, which is the same in every process."""
    variables: dict[int, tf.Variable] = {}
    visited = set()

    def visit(node: object) -> None:
        if isinstance(node, tf.Variable):
            variables.setdefault(id(node), node)
        elif id(node) not in visited:
            visited.add(id(node))
            for name, child in sorted(tf.train.TrackableView.children(node).items()):
                if name != "save_counter":  # TensorFlow adds it on the first save or restore
                    visit(child)

    visit(checkpoint)
    return list(variables.values())


class Writer:
    """Writes checkpoints from a background thread, one at a time; the pointer to the newest is written last.

    It writes a copy of the object graph with its own variables on the CPU, so that later steps do not change what is
    written. On a CPU, original and copy share memory until the next step, since TensorFlow copies on write.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: Path, keep: int) -> None:
        """Write checkpoints of `checkpoint` into `folder` and keep the newest `keep`."""
        self._pairs: list[tuple[tf.Variable, tf.Variable]] = []
        self._manager = tf.train.CheckpointManager(
            self._copy(checkpoint, {}), str(folder), max_to_keep=keep, checkpoint_name=STEP_PREFIX
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None

    def write(self, number: int) -> None:
        """Start to write the current values as checkpoint `number`, after a pending write has ended."""
        self.finish()
        self._copy_values()
        self._writing = self._thread.submit(self._manager.save, checkpoint_number=number)

    def is_done(self) -> bool:
        """Tell whether a write has ended for which `finish` was not called yet."""
        return self._writing is not None and self._writing.done()

    def finish(self) -> bool:
        """Wait for a pending write and raise its error, if any; return False if there was no write."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
        return writing is not None

    def close(self) -> None:
        """Wait for a pending write and end the thread."""
        self._thread.shutdown()

    @tf.function(autograph=False)
    def _copy_values(self) -> None:
        for original, copy in self._pairs:
            copy.assign(original)

    def _copy(self, original: tf.train.Checkpoint, known: dict[int, object]) -> tf.train.Checkpoint:
        """Copy the object graph below `original` with the names of its edges, which are a checkpoint's keys."""
        if id(original) in known:
            return known[id(original)]
        if isinstance(original, tf.Variable):
            with tf.device("CPU:0"):
                copy = tf.Variable(original.read_value(), trainable=False)
            self._pairs.append((original, copy))
            known[id(original)] = copy
            return copy
        copy = known[id(original)] = tf.train.Checkpoint()
        for name, child in tf.train.TrackableView.children(original).items():
            setattr(copy, name, self._copy(child, known))
        return copy
