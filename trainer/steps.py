"""One epoch under a strategy: the training step, the evaluation step, and the checkpoint between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from tqdm import tqdm

from preprocessing.manifest import Manifest
from trainer import checkpoint, dataset, loss, metrics, rollbacks
from trainer.config import Config, DatasetFacts
from trainer.dataset import Batch
from trainer.interrupt import StoppedError, StopRequest
from trainer.models import Terms, WaveformVAE, make_model
from trainer.run_directory import CHECKPOINTS

EVALUATION_CLIPS = 8  # at once, over all replicas: whole clips take more memory than crops
EVALUATION_STEP = 2**31 - 1  # keys the noise of evaluation: the same each epoch, never a training step's


class Totals(NamedTuple):
    """Sums over examples, from which every figure of a row is made; float64 scalars."""

    log_likelihood: tf.Tensor
    kl: tf.Tensor
    snr_db: tf.Tensor
    examples: tf.Tensor
    samples: tf.Tensor


class DivergedError(Exception):
    """A weight, a loss or a figure is no number any more."""


class Position(NamedTuple):
    """Where in a run one is: in the middle of an epoch, or at its end while it is not yet measured."""

    epoch: int  # finished epochs
    step: int  # training steps done of the next one
    totals: Totals | None  # of those steps
    secs: float  # spent on those steps


class Trainer:
    """A model, its optimizer and its checkpoints under one strategy.

    All that a run depends on is either a function of its configuration and position (data, noise, learning
    rate) or in the checkpoint, so that going on from one ends in the same bits as never having stopped.
    `saved` is called after each checkpoint. A run without one begins with the weights of the run in the local
    folder `start`, if that is given.
    """

    def __init__(
        self,
        config: Config,
        facts: DatasetFacts,
        strategy: tf.distribute.Strategy,
        run: Path,
        stop: StopRequest,
        saved: Callable[[], None],
        start: Path | None = None,
    ) -> None:
        self.config = config
        self.path = run
        self.strategy = strategy
        self.clip_samples = facts.clip_samples
        self._stop, self._saved = stop, saved
        self._learning_rate_scale = rollbacks.learning_rate_scale(run)
        self._evaluation_clips = max(EVALUATION_CLIPS, strategy.num_replicas_in_sync)
        tf.keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model: WaveformVAE = make_model(config, facts)
            self.optimizer = tf.keras.optimizers.Adam(
                config.learning_rate, global_clipnorm=config.gradient_clip_norm or None
            )
            self.optimizer.build(self.model.trainable_variables)
        self._checkpoint = tf.train.Checkpoint(
            model=self.model,
            optimizer=self.optimizer,
            epoch=tf.Variable(0, dtype=tf.int64),
            step=tf.Variable(0, dtype=tf.int64),
            totals=tf.Variable(tf.zeros([len(Totals._fields)], tf.float64)),
            secs=tf.Variable(0.0, dtype=tf.float64),
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            str(run / CHECKPOINTS),
            max_to_keep=config.checkpoints_to_keep,
            checkpoint_name=checkpoint.NAME,
        )
        if not checkpoint.restore_newest(self._checkpoint, run / CHECKPOINTS) and start is not None:
            checkpoint.restore_newest(tf.train.Checkpoint(model=self.model), start / CHECKPOINTS)
        at = self._checkpoint
        totals = Totals(*tf.unstack(at.totals)) if int(at.step) else None
        self.position = Position(int(at.epoch), int(at.step), totals, float(at.secs))
        self._saved_at = time.monotonic()

    @property
    def steps(self) -> int:
        """Of the optimizer, since the run began."""
        return int(self.optimizer.iterations.numpy())

    def save(self) -> None:
        """Writes a checkpoint of where the run is.

        Raises:
            DivergedError: There is nothing worth saving.
        """
        self._refuse_divergence()
        at, position = self._checkpoint, self.position
        at.epoch.assign(position.epoch)
        at.step.assign(position.step)
        at.secs.assign(position.secs)
        at.totals.assign(tf.zeros_like(at.totals) if position.totals is None else tf.stack(position.totals))
        self._manager.save(checkpoint_number=self.steps)
        self._saved_at = time.monotonic()
        self._saved()

    def finish_epoch(self) -> None:
        """Moves to the next epoch, and saves."""
        self.position = Position(self.position.epoch + 1, 0, None, 0.0)
        self.save()

    def train_epoch(self, clips: tf.data.Dataset, manifest: Manifest) -> dict[str, float]:
        """The rest of a pass over the training split; returns its row of metrics.

        Raises:
            DivergedError: The loss is no number any more.
            StoppedError: A signal has come; the run is saved.
        """
        config, epoch = self.config, self.position.epoch + 1
        steps = dataset.count_steps(manifest.split_records("train"), config)
        batches = dataset.training_batches(clips, config, manifest, epoch).skip(self.position.step)
        started = time.monotonic() - self.position.secs
        first, total = self.position.step, steps * config.epochs
        with tqdm(
            total=steps, initial=first, desc=f"epoch {epoch}/{config.epochs}", unit=" steps", leave=False
        ) as bar:
            for index, batch in enumerate(self._divided(batches), start=first):
                beta = config.beta_at(epoch - 1 + index / steps)
                done = steps * (epoch - 1) + index
                self.optimizer.learning_rate.assign(self._learning_rate(done, total))
                sums = self._train_step(batch, tf.constant(done, tf.int32), tf.constant(beta, tf.float32))
                before = self.position.totals
                totals = sums if before is None else Totals(*map(tf.add, before, sums))
                self.position = Position(epoch - 1, index + 1, totals, time.monotonic() - started)
                bar.update()
                if index % 10 == 0:
                    bar.set_postfix_str(f"train ELBO {self._per_clip(totals)['elbo']:.0f} nats")
                    self._refuse_divergence()
                self._save_if_due()
        self._refuse_divergence()
        totals, secs = self.position.totals, self.position.secs
        figures = {f"train_{name}": value for name, value in self._per_clip(totals).items()}
        return {
            "epoch": epoch,
            **figures,
            "beta": config.beta_at(epoch - 1 / steps),
            "learning_rate": self._learning_rate(steps * epoch - 1, total),
            "epoch_secs": secs,
            "clips_per_sec": float(totals.samples) / self.clip_samples / secs,
        }

    def evaluate(self, clips: tf.data.Dataset) -> dict[str, float]:
        """ELBO, its terms and the SNR over whole clips.

        Raises:
            DivergedError: One of them is no number.
            StoppedError: A signal has come; the run is saved.
        """
        batches = dataset.evaluation_batches(clips, self._evaluation_clips)
        totals = None
        for batch in self._divided(batches):
            self._save_if_due()
            sums = self._evaluation_step(batch)
            totals = sums if totals is None else Totals(*map(tf.add, totals, sums))
        figures = {f"test_{name}": value for name, value in self._per_clip(totals).items()}
        figures |= {"test_snr_db": float(totals.snr_db / totals.examples)}
        if not all(map(math.isfinite, figures.values())):
            raise DivergedError(f"a test figure of epoch {self.position.epoch + 1} is no number")
        return figures

    def _learning_rate(self, done: int, total: int) -> float:
        return self._learning_rate_scale * self.config.learning_rate_at(done / total, done)

    def _save_if_due(self) -> None:
        """Saves when it is time to, or when the run is asked to stop, which it then does."""
        if self._stop.asked:
            self.save()
            raise StoppedError(self.position.epoch + 1)
        if time.monotonic() - self._saved_at >= self.config.checkpoint_secs:
            self.save()

    def _refuse_divergence(self) -> None:
        totals = self.position.totals
        if totals is not None and not all(math.isfinite(float(value)) for value in totals):
            raise DivergedError(f"the loss is no number at step {self.steps}")
        weights = self.model.trainable_variables
        if not all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in weights):
            raise DivergedError(f"a weight is no number at step {self.steps}")

    def _divided(self, batches: tf.data.Dataset) -> Iterator[Batch]:
        """Global batches with a part for each replica.

        `experimental_distribute_dataset` would do it too, but its iterators end slowly: its wrapping turns
        autotuning on again (see `dataset`), which costs seconds an epoch.
        """
        replicas = self.strategy.num_replicas_in_sync
        for batch in batches:
            size = batch.position.shape[0]
            starts = [size * replica // replicas for replica in range(replicas + 1)]

            def part(
                context: tf.distribute.ReplicaContext, batch: Batch = batch, starts: list = starts
            ) -> Batch:
                replica = context.replica_id_in_sync_group
                first, last = starts[replica], starts[replica + 1]
                return tf.nest.map_structure(lambda tensor: tensor[first:last], batch)

            yield self.strategy.experimental_distribute_values_from_function(part)

    def _per_clip(self, totals: Totals) -> dict[str, float]:
        """Nats per clip; crops count for the part of a clip that they are."""
        clips = float(totals.samples) / self.clip_samples
        log_likelihood, kl = float(totals.log_likelihood) / clips, float(totals.kl) / clips
        return {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}

    @tf.function
    def _train_step(self, batch: Batch, step: tf.Tensor, beta: tf.Tensor) -> Totals:
        def replica_step(batch: Batch) -> Totals:
            noise = self._noise(batch, self.config.batch_size, step)
            with tf.GradientTape() as tape:
                terms = self.model.terms(batch.audio, batch.condition, noise, beta)
                value = loss.replica_loss(terms, batch.weight)
            gradients = tape.gradient(value, self.model.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
            return self._totals(batch, terms, tf.zeros_like(terms.log_likelihood))

        return self._reduce(self.strategy.run(replica_step, args=(batch,)))

    @tf.function
    def _evaluation_step(self, batch: Batch) -> Totals:
        def replica_step(batch: Batch) -> Totals:
            noise = self._noise(batch, self._evaluation_clips, tf.constant(EVALUATION_STEP, tf.int32))
            terms = self.model.terms(batch.audio, batch.condition, noise, tf.constant(1.0))
            snr_db = metrics.snr_db(batch.audio, self.model.reconstruct(batch.audio, batch.condition))
            return self._totals(batch, terms, snr_db)

        return self._reduce(self.strategy.run(replica_step, args=(batch,)))

    def _noise(self, batch: Batch, global_batch: int, step: tf.Tensor) -> tf.Tensor:
        """Standard normal noise of this replica's examples, `[batch, noise_size]`.

        Drawn for the whole global batch from (seed, step) and picked by position: the same for an example,
        however the batch is divided.
        """
        size = self.model.noise_size(batch.audio.shape[-1])
        everyone = tf.random.stateless_normal([global_batch, size], [self.config.seed, step])
        return tf.gather(everyone, batch.position)

    def _totals(self, batch: Batch, terms: Terms, snr_db: tf.Tensor) -> Totals:
        real = tf.cast(batch.weight > 0, tf.float64)
        values = (terms.log_likelihood, tf.reduce_sum(terms.kl, axis=-1), snr_db)
        sums = (tf.reduce_sum(real * tf.cast(value, tf.float64)) for value in values)
        examples = tf.reduce_sum(real)
        return Totals(*sums, examples, examples * batch.audio.shape[-1])

    def _reduce(self, sums: Totals) -> Totals:
        return Totals(*(self.strategy.reduce("SUM", value, axis=None) for value in sums))
