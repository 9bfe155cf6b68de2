"""The training loop: the steps and the evaluation of an epoch, the run's progress, and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import tensorflow as tf

from preprocessing.errors import StoppedError
from trainer.config import Config
from trainer.data import input_pipeline
from trainer.data.distribute import distributed_iterator
from trainer.data.reader import Reader
from trainer.data.training_data import TrainingData
from trainer.models.base import Stage, WaveformVAE
from trainer.run_config import DatasetMetadata
from trainer.runs import rollbacks
from trainer.runs.metrics import STAGE, STEPS
from trainer.training.divergence import CHECK_STEPS, DivergedError, DivergenceDetector
from trainer.training.evaluation import evaluation_metrics
from trainer.training.position import Position, RunCheckpoints
from trainer.training.profiling import Profile
from trainer.training.progress import EpochProgress
from trainer.training.schedule import beta_at, learning_rate_at, stage_at
from trainer.training.signals import StopRequest
from trainer.training.totals import Totals
from trainer.training.train_step import TrainState
from trainer.training.workers.distribution import Distribution


class TrainingLoop:
    """Trains and evaluates epochs and saves checkpoints. Use as a context manager: leaving it ends pending writes.

    Everything that a run depends on is either a function of its configuration and position (data, noise, learning
    rate) or in the checkpoint. So a resumed run ends with the same bits as an uninterrupted one.

    Attributes:
        config: Of the run.
        path: The local run directory.
        strategy: Of all replicas.
        clip_samples: Length of a whole clip.
        position: Progress of the run.
    """

    def __init__(
        self,
        config: Config,
        metadata: DatasetMetadata,
        distribution: Distribution,
        run: Path,
        stop: StopRequest,
        on_saved: Callable[[], None],
        profile: Profile | None = None,
        init_from: Path | None = None,
    ) -> None:
        """Build the model and restore the newest checkpoint of `run`, if there is one.

        Args:
            config: Of the run.
            metadata: Of the dataset.
            distribution: The workers and devices.
            run: The local run directory.
            stop: Checked after every step.
            on_saved: Called when the files of a checkpoint are complete.
            profile: Which steps to profile; None: none.
            init_from: A local run whose weights a run without checkpoints starts from; None: random weights.

        Raises:
            CommandError: All checkpoints are corrupt or of another model (exit code 3).
        """
        self.config = config
        self.path = run
        self.strategy = distribution.strategy
        self._distribution = distribution
        self.clip_samples = metadata.clip_samples
        self._stop, self._profile = stop, profile
        self._learning_rate_scale = distribution.broadcast(rollbacks.learning_rate_scale(run))
        self._train_state = TrainState(config, metadata, distribution.strategy)
        self._checkpoints = RunCheckpoints(self._train_state, distribution, run, init_from, on_saved)
        self.position = self._checkpoints.restored
        self._divergence = DivergenceDetector()
        self._saved_at = time.monotonic()
        self._reader: Reader | None = None
        self._batches: Iterator[input_pipeline.Batch] = iter(())
        self._progress: EpochProgress | None = None
        self._test_snr_db: float | None = None  # after the previous epoch

    def __enter__(self) -> TrainingLoop:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._reader:
            self._reader.close()
        if self._profile:
            self._profile.close()
        self._checkpoints.close()

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self._distribution.is_chief

    @property
    def model(self) -> WaveformVAE:
        """The model that is evaluated and generates: with averaged weights, if the run averages them."""
        return self._train_state.averaged

    @property
    def steps(self) -> int:
        """Number of training steps since the run began."""
        return self._train_state.steps

    def save(self) -> None:
        """Start to write a checkpoint of the run's current state; only the chief writes it.

        Raises:
            DivergedError: The training has diverged; nothing is saved.
        """
        self._check_divergence()
        self._saved_at = time.monotonic()
        self._checkpoints.write(self.position)

    def finish_saving(self) -> None:
        """Wait for the checkpoint that is being written, if any."""
        self._checkpoints.finish()

    def finish_epoch(self) -> None:
        """Move to the next epoch and save."""
        self.position = Position(self.position.epoch + 1, 0, None, 0.0)
        self.save()

    def train_epoch(self, clips: TrainingData) -> dict[str, float]:
        """Train the rest of the current epoch on this worker's training clips.

        Returns:
            The epoch's training metrics.

        Raises:
            DivergedError: The loss or a weight is not finite, or the loss has risen too far.
            CommandError: A shard is missing or differs from the manifest (exit code 3), storage failed (4), or a signal
                was received and a checkpoint has been saved (75).
        """
        config, epoch = self.config, self.position.epoch + 1
        steps = input_pipeline.count_steps(clips.manifest, config)
        started = time.monotonic() - self.position.secs
        first = self.position.step
        reader = self._remaining_batches(clips)
        with EpochProgress(epoch, config.epochs, steps, first, reader) as self._progress:
            progress = self._progress
            for index, batch in zip(range(first, steps), self._batches, strict=False):
                finished_epochs = epoch - 1 + index / steps
                sums = self._train_step(batch, steps * (epoch - 1) + index, finished_epochs)
                self._divergence.add(sums, beta_at(config, finished_epochs))
                previous = self.position.totals
                totals = sums if previous is None else previous.plus(sums)
                self.position = Position(epoch - 1, index + 1, totals, time.monotonic() - started)
                progress.advance()
                if index % CHECK_STEPS == 0:
                    self._check_divergence()
                    elbo = totals.nats_per_clip(self.clip_samples)["elbo"]
                    progress.show(elbo, self._clips_per_sec(), self._test_snr_db)
                self._save_if_due()
        self._progress = None
        self._check_divergence()
        assert self.position.totals is not None  # an epoch has at least one step
        elbo_terms = self.position.totals.nats_per_clip(self.clip_samples).items()
        return {
            "epoch": epoch,
            STEPS: self.steps,
            **{f"train_{name}": value for name, value in elbo_terms},
            STAGE: 2 if stage_at(config, epoch - 1) is Stage.GENERATION else 1,
            "beta": beta_at(config, epoch - 1 / steps),
            "learning_rate": self._learning_rate(steps * epoch - 1, epoch - 1 / steps),
            "epoch_secs": self.position.secs,
            "clips_per_sec": self._clips_per_sec(),
        }

    def evaluate(self, clips: TrainingData) -> dict[str, float]:
        """Compute the ELBO, its terms and the SNR of whole test clips, and the ELBO of whole validation clips.

        Returns:
            The test metrics, in nats per clip and dB.

        Raises:
            DivergedError: A metric is not finite.
            CommandError: As `train_epoch`.
        """
        metrics = evaluation_metrics(
            clips, self._train_state, self._distribution, self._save_if_due, self._while_waiting
        )
        if not all(map(math.isfinite, metrics.values())):
            raise DivergedError(f"a metric of epoch {self.position.epoch + 1} is not finite")
        self._test_snr_db = metrics["test_snr_db"]
        return metrics

    def _remaining_batches(self, clips: TrainingData) -> Reader:
        """Begin to read the batches of all remaining epochs, from the run's position, unless that has begun."""
        if self._reader is None:
            self._reader = clips.begin(self.position.epoch, self.position.step, self._while_waiting)
            self._batches = distributed_iterator(self._reader, self.strategy)
        return self._reader

    def _while_waiting(self) -> None:
        """Show that training waits for data; stop if that is requested, which other workers cannot know, however."""
        if self._progress:
            self._progress.show_waiting()
        if self._stop.requested and self._distribution.workers == 1:
            self._save_and_stop()

    def _train_step(self, batch: input_pipeline.Batch, step: int, epoch: float) -> Totals:
        """Run a training step; `step` and `epoch` count from 0 at the beginning of the run."""
        config, state = self.config, self._train_state
        if self._profile:
            self._profile.before(step + 1)
        state.optimizer.learning_rate.assign(self._learning_rate(step, epoch))
        beta = tf.constant(beta_at(config, epoch), tf.float32)
        sums = state.train_step(batch, tf.constant(step, tf.int32), beta, stage_at(config, epoch))
        if self._profile:
            self._profile.after(step + 1)
        return sums

    def _learning_rate(self, step: int, epoch: float) -> float:
        return self._learning_rate_scale * learning_rate_at(self.config, epoch, step)

    def _save_if_due(self) -> None:
        """Save if the last checkpoint is old enough; save and stop if that is requested.

        Raises:
            StoppedError: A signal was received, by this worker or another.
        """
        is_time = time.monotonic() - self._saved_at >= self.config.checkpoint_secs
        # All workers decide together, since each checks for divergence before the chief writes.
        is_stopped, is_due = self._distribution.any_worker(self._stop.requested, is_time)
        if is_stopped:
            self._save_and_stop()
        self._checkpoints.finish_if_done()
        if is_due:
            self.save()

    def _save_and_stop(self) -> NoReturn:
        if not self.steps:  # it waits for its first shards
            raise StoppedError("stopped on request before the first step: run the same command to start")
        self.save()
        self.finish_saving()
        epoch = self.position.epoch + 1
        raise StoppedError(
            f"stopped on request in epoch {epoch}, checkpoint saved: run the same command to resume"
        )

    def _check_divergence(self) -> None:
        """Raise `DivergedError` if the loss or a weight is not finite, or if the loss has risen too far."""
        totals = self.position.totals
        if totals is not None and not bool(tf.reduce_all(tf.math.is_finite(tf.stack(totals)))):
            raise DivergedError(f"the loss is not finite at step {self.steps}")
        if not bool(self._train_state.is_finite()):
            raise DivergedError(f"a weight is not finite at step {self.steps}")
        self._divergence.check()

    def _clips_per_sec(self) -> float:
        assert self.position.totals is not None
        return float(self.position.totals.samples) / self.clip_samples / self.position.secs
