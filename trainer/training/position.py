"""The position of a run, and the checkpoints that hold it beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from trainer.runs import checkpoints
from trainer.runs.directory import CHECKPOINTS
from trainer.training.totals import Totals
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution


class Position(NamedTuple):
    """Progress of a run: within an epoch, or after its last step but before its evaluation."""

    epoch: int  # number of finished epochs
    step: int  # number of finished steps of the current epoch
    totals: Totals | None  # of these steps; None if there are none
    secs: float  # duration of these steps


class RunCheckpoints:
    """Restores the newest checkpoint of a run, and writes others in the background; only the chief has the files.

    Attributes:
        restored: The position in the newest checkpoint, on all workers; the beginning if there is none.
    """

    def __init__(
        self,
        state: TrainState,
        distribution: Distribution,
        run: Path,
        init_from: Path | None,
        on_saved: Callable[[], None],
    ) -> None:
        """Restore the newest checkpoint of a local run; without one, the weights of the run `init_from`, if any.

        `on_saved` is called when the files of a checkpoint are complete.

        Raises:
            CommandError: All checkpoints are corrupt or of another model (exit code 3).
        """
        self._state, self._on_saved = state, on_saved
        self._checkpoint = saved = tf.train.Checkpoint(
            **state.trackables,
            epoch=tf.Variable(0, dtype=tf.int64),
            step=tf.Variable(0, dtype=tf.int64),
            totals=tf.Variable(tf.zeros([len(Totals._fields)], tf.float64)),
            secs=tf.Variable(0.0, dtype=tf.float64),
        )
        self._writer = None
        if distribution.is_chief:
            folder = run / CHECKPOINTS
            self._writer = checkpoints.Writer(saved, folder, state.config.checkpoints_to_keep)
            if not checkpoints.restore_newest(saved, folder) and init_from is not None:
                state.init_from(init_from)
            checkpoints.delete_left_overs(run)
        distribution.broadcast_variables(checkpoints.variables_of(saved))
        totals = Totals(*tf.unstack(saved.totals)) if int(saved.step) else None
        self.restored = Position(int(saved.epoch), int(saved.step), totals, float(saved.secs))

    def write(self, position: Position) -> None:
        """Start to write a checkpoint of the current state."""
        if self._writer is None:
            return
        checkpoint = self._checkpoint
        checkpoint.epoch.assign(position.epoch)
        checkpoint.step.assign(position.step)
        checkpoint.secs.assign(position.secs)
        totals = tf.zeros_like(checkpoint.totals) if position.totals is None else tf.stack(position.totals)
        checkpoint.totals.assign(totals)
        self.finish()
        self._writer.write(self._state.steps)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, if any, and report it as saved."""
        if self._writer and self._writer.finish():
            self._on_saved()

    def finish_if_done(self) -> None:
        """Report a checkpoint whose files are complete as saved, without waiting for others."""
        if self._writer and self._writer.is_done():
            self.finish()

    def close(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._writer:
            self._writer.close()
