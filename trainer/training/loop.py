"""One epoch of a run: its steps, its evaluation, where it stands, and the checkpoints on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from trainer.config import Config
from trainer.data import input_pipeline
from trainer.data.dataset import Clips
from trainer.data.distribute import distributed_iterator
from trainer.models.base import WaveformVAE
from trainer.run_config import DatasetMetadata
from trainer.runs import checkpoints, rollbacks
from trainer.runs.directory import CHECKPOINTS
from trainer.training.distribution import Distribution
from trainer.training.divergence import LOOK_STEPS, DivergedError, LossWatch
from trainer.training.profiling import Profile
from trainer.training.progress import Progress
from trainer.training.signals import StoppedError, StopRequest
from trainer.training.train_step import Totals, TrainState


class Position(NamedTuple):
    """Where in a run one is: in the middle of an epoch, or at its end while it is not yet measured."""

    epoch: int  # finished epochs
    step: int  # training steps done of the next one
    totals: Totals | None  # of those steps
    secs: float  # spent on those steps


class TrainingLoop:
    """A learner and its checkpoints. Use as a context manager: leaving it waits for what is being written.

    All that a run depends on is either a function of its configuration and position (data, noise, learning
    rate) or in the checkpoint, so that going on from one ends in the same bits as never having stopped.
    `saved` is called when a checkpoint's files are complete. A run without one begins with the weights of the
    run in the local folder `init_from`, if that is given.
    """

    def __init__(
        self,
        config: Config,
        metadata: DatasetMetadata,
        distribution: Distribution,
        run: Path,
        stop: StopRequest,
        saved: Callable[[], None],
        profile: Profile | None = None,
        init_from: Path | None = None,
    ) -> None:
        self.config = config
        self.path = run
        self.strategy = distribution.strategy
        self._distribution = distribution
        self.clip_samples = metadata.clip_samples
        self._stop, self._saved, self._profile = stop, saved, profile
        self._learning_rate_scale = distribution.broadcast(rollbacks.learning_rate_scale(run))
        self._train_state = TrainState(config, metadata, distribution.strategy)
        self._checkpoint = tf.train.Checkpoint(
            **self._train_state.parts,
            epoch=tf.Variable(0, dtype=tf.int64),
            step=tf.Variable(0, dtype=tf.int64),
            totals=tf.Variable(tf.zeros([len(Totals._fields)], tf.float64)),
            secs=tf.Variable(0.0, dtype=tf.float64),
        )
        self._writer = None
        if distribution.is_chief:
            self._writer = checkpoints.Writer(self._checkpoint, run / CHECKPOINTS, config.checkpoints_to_keep)
            if not checkpoints.restore_newest(self._checkpoint, run / CHECKPOINTS) and init_from is not None:
                self._train_state.init_from(init_from)
        at = self._checkpoint
        distribution.broadcast_variables(checkpoints.variables_of(at))
        totals = Totals(*tf.unstack(at.totals)) if int(at.step) else None
        self.position = Position(int(at.epoch), int(at.step), totals, float(at.secs))
        self._watch = LossWatch()
        self._saved_at = time.monotonic()
        self._left: Iterator[input_pipeline.Batch] | None = None
        self._snr_db: float | None = None  # of the test clips, after the epoch before

    def __enter__(self) -> TrainingLoop:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._profile:
            self._profile.close()
        if self._writer:
            self._writer.close()

    @property
    def is_chief(self) -> bool:
        """Whether this process keeps the run."""
        return self._distribution.is_chief

    @property
    def model(self) -> WaveformVAE:
        """What is judged and heard."""
        return self._train_state.averaged

    @property
    def steps(self) -> int:
        """Of the optimizer, since the run began."""
        return self._train_state.steps

    def save(self) -> None:
        """Begins to write a checkpoint of where the run is; of several workers the chief does.

        Raises:
            DivergedError: There is nothing worth saving.
        """
        self._refuse_divergence()
        self._saved_at = time.monotonic()
        if self._writer is None:
            return
        at, position = self._checkpoint, self.position
        at.epoch.assign(position.epoch)
        at.step.assign(position.step)
        at.secs.assign(position.secs)
        at.totals.assign(tf.zeros_like(at.totals) if position.totals is None else tf.stack(position.totals))
        self.finish_saving()
        self._writer.write(self.steps)

    def finish_saving(self) -> None:
        """Waits for the checkpoint that is being written, if one is, and hands it on."""
        if self._writer and self._writer.finish():
            self._saved()

    def finish_epoch(self) -> None:
        """Moves to the next epoch, and saves."""
        self.position = Position(self.position.epoch + 1, 0, None, 0.0)
        self.save()

    def train_epoch(self, input_shards: list[Clips], manifest: Manifest) -> dict[str, float]:
        """The rest of a pass over the training split; returns its row of metrics.

        `input_shards` are this worker's own part of it.

        Raises:
            DivergedError: The loss or a weight is not finite, or the loss has exploded.
            StoppedError: A signal was received; the run is saved.
        """
        config, epoch = self.config, self.position.epoch + 1
        steps = input_pipeline.count_steps(manifest, config)
        started = time.monotonic() - self.position.secs
        first, total = self.position.step, steps * config.epochs
        with Progress(epoch, config.epochs, steps, first) as progress:
            for index, batch in zip(range(first, steps), self._fed(input_shards, manifest), strict=False):
                done = steps * (epoch - 1) + index
                rate = self._learning_rate(done, total)
                beta = config.beta_at(epoch - 1 + index / steps)
                sums = self._step(batch, done, beta, rate)
                self._watch.add(sums, beta)
                before = self.position.totals
                totals = sums if before is None else before.plus(sums)
                self.position = Position(epoch - 1, index + 1, totals, time.monotonic() - started)
                progress.advance()
                if index % LOOK_STEPS == 0:
                    self._refuse_divergence()
                    progress.show(self._per_clip(totals)["elbo"], self._clips_per_sec(), self._snr_db)
                self._save_if_due()
        self._refuse_divergence()
        assert self.position.totals is not None  # an epoch has at least one step
        figures = self._per_clip(self.position.totals).items()
        return {
            "epoch": epoch,
            **{f"train_{name}": value for name, value in figures},
            "beta": config.beta_at(epoch - 1 / steps),
            "learning_rate": self._learning_rate(steps * epoch - 1, total),
            "epoch_secs": self.position.secs,
            "clips_per_sec": self._clips_per_sec(),
        }

    def evaluate(self, clips: Clips) -> dict[str, float]:
        """ELBO, its terms and the SNR over whole clips.

        Raises:
            DivergedError: One of them is not finite.
            StoppedError: A signal was received; the run is saved.
        """
        count, distribution = self._train_state.evaluation_clips, self._distribution
        whole_clips = input_pipeline.evaluation_batches(
            clips, count, distribution.index, distribution.workers
        )
        totals: Totals | None = None
        for batch in distributed_iterator(whole_clips, self.strategy):
            self._save_if_due()
            sums = self._train_state.evaluation_step(batch)
            totals = sums if totals is None else totals.plus(sums)
        assert totals is not None  # a split has at least one clip
        figures = {f"test_{name}": value for name, value in self._per_clip(totals).items()}
        figures |= {"test_snr_db": float(totals.snr_db / totals.examples)}
        if not all(map(math.isfinite, figures.values())):
            raise DivergedError(f"a test figure of epoch {self.position.epoch + 1} is not finite")
        self._snr_db = figures["test_snr_db"]
        return figures

    def _fed(self, input_shards: list[Clips], manifest: Manifest) -> Iterator[input_pipeline.Batch]:
        """The batches of all epochs that are left, from where the run is; one iterator for all of them."""
        if self._left is None:
            config, position = self.config, self.position
            epochs = range(position.epoch + 1, config.epochs + 1)
            first = self._distribution.input_shards_of_worker(config.input_shards).start
            left = input_pipeline.training_batches(input_shards, config, manifest, epochs, first).skip(
                position.step
            )
            self._left = distributed_iterator(left, self.strategy)
        return self._left

    def _step(self, batch: input_pipeline.Batch, done: int, beta: float, learning_rate: float) -> Totals:
        """The training step after `done` of the whole run."""
        if self._profile:
            self._profile.before(done + 1)
        self._train_state.optimizer.learning_rate.assign(learning_rate)
        sums = self._train_state.train_step(batch, tf.constant(done, tf.int32), tf.constant(beta, tf.float32))
        if self._profile:
            self._profile.after(done + 1)
        return sums

    def _learning_rate(self, done: int, total: int) -> float:
        return self._learning_rate_scale * self.config.learning_rate_at(done / total, done)

    def _save_if_due(self) -> None:
        """Saves when it is time to, or when the run is asked to stop, which it then does."""
        is_time = time.monotonic() - self._saved_at >= self.config.checkpoint_secs
        # Together, since before it is written all look whether it is worth it.
        is_stopped, is_due = self._distribution.any_worker(self._stop.asked, is_time)
        if is_stopped:
            self.save()
            self.finish_saving()
            raise StoppedError(self.position.epoch + 1)
        if self._writer and self._writer.is_done():
            self.finish_saving()
        if is_due:
            self.save()

    def _refuse_divergence(self) -> None:
        totals = self.position.totals
        if totals is not None and not bool(tf.reduce_all(tf.math.is_finite(tf.stack(totals)))):
            raise DivergedError(f"the loss is not finite at step {self.steps}")
        if not bool(self._train_state.is_finite()):
            raise DivergedError(f"a weight is not finite at step {self.steps}")
        self._watch.look()

    def _clips_per_sec(self) -> float:
        assert self.position.totals is not None
        return float(self.position.totals.samples) / self.clip_samples / self.position.secs

    def _per_clip(self, totals: Totals) -> dict[str, float]:
        """Nats per clip; crops count for the part of a clip that they are."""
        clips = float(totals.samples) / self.clip_samples
        log_likelihood, kl = float(totals.log_likelihood) / clips, float(totals.kl) / clips
        return {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}
