"""A run's checkpoints: written whole or not at all, and restored from the newest that is whole.

They are written while training goes on: a save copies every value, and a thread writes the copies.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from preprocessing.errors import BAD_DATA, CommandError
from trainer import event_log
from trainer.config import Config
from trainer.runs.directory import CHECKPOINTS

AVERAGED = "averaged"  # the name of the averaged weights beside `model`, where a run has them
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
            event_log.log_event(
                "damaged_checkpoint", f"{path} is damaged: taking the one before it", event_log.WARNING
            )
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CommandError(
                f"{path} is of another model ({reason}): use its own --run", BAD_DATA
            ) from error
        else:
            return True
    raise CommandError(f"{damage}, and none before it is whole: restore its files", BAD_DATA)


def restore_for_inference(model: tf.keras.Model, run: Path, config: Config) -> bool:
    """Fills `model` with what is judged and heard of a run: the average of its weights, where it keeps one.

    Returns and raises as `restore_newest`.
    """
    name = AVERAGED if config.ema_decay else "model"
    return restore_newest(tf.train.Checkpoint(**{name: model}), run / CHECKPOINTS)


def variables_of(checkpoint: tf.train.Checkpoint) -> list[tf.Variable]:
    """All that it would write, in an order by names alone: every process that has such objects has it."""
    found: dict[int, tf.Variable] = {}
    visited = set()

    def visit(node: object) -> None:
        if isinstance(node, tf.Variable):
            found.setdefault(id(node), node)
        elif id(node) not in visited:
            visited.add(id(node))
            for name, child in sorted(tf.train.TrackableView.children(node).items()):
                if name != "save_counter":  # TensorFlow's own, which only who has saved or restored has
                    visit(child)

    visit(checkpoint)
    return list(found.values())


class Writer:
    """Writes checkpoints of `checkpoint` into `folder`, one at a time, the pointer last.

    What is written is a copy of the objects' graph, with variables of its own on the CPU, so that a step in
    the meantime changes nothing of it. On a CPU both share their values until that step, since TensorFlow
    copies a value on its change where it has another holder.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: Path, keep: int) -> None:
        self._pairs: list[tuple[tf.Variable, tf.Variable]] = []
        self._manager = tf.train.CheckpointManager(
            self._copy(checkpoint, {}), str(folder), max_to_keep=keep, checkpoint_name=NAME
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None

    def write(self, number: int) -> None:
        """Begins to write the values as they are now; waits for an earlier write that is not done."""
        self.finish()
        self._take_values()
        self._writing = self._thread.submit(self._manager.save, checkpoint_number=number)

    def is_done(self) -> bool:
        """Whether a write has ended of which `finish` does not know yet."""
        return self._writing is not None and self._writing.done()

    def finish(self) -> bool:
        """Waits for a write that has begun; returns whether one had, and raises what went wrong."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
        return writing is not None

    def close(self) -> None:
        """Waits, and ends the thread."""
        self._thread.shutdown()

    @tf.function(autograph=False)
    def _take_values(self) -> None:
        for original, copy in self._pairs:
            copy.assign(original)

    def _copy(self, original: tf.train.Checkpoint, known: dict[int, object]) -> tf.train.Checkpoint:
        """The graph of objects under `original` by the names of its edges, which are a checkpoint's keys."""
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
