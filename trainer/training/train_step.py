"""What learns, and nothing that is kept: a model, its optimizer, its average, and two compiled steps.

A step is a pure function of weights, batch, (seed, step) and beta:

    batch, noise -> [micro-batch -> gradient] summed -> all replicas summed -> optimizer -> average
                    |--- one XLA program with jit ---|
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from preprocessing.errors import BAD_DATA, CommandError
from trainer import run_config
from trainer.config import Config
from trainer.data.input_pipeline import Batch
from trainer.dsp import distances
from trainer.models import make_model
from trainer.models.base import ElboTerms, WaveformVAE
from trainer.run_config import DatasetMetadata
from trainer.runs.checkpoints import AVERAGED, restore_for_inference
from trainer.training.optimizer import FusedAdam

EVALUATION_CLIPS = 8  # at once, over all replicas: whole clips take more memory than crops
EVALUATION_STEP = 2**31 - 1  # keys the noise of evaluation: the same each epoch, never a training step's


class Totals(NamedTuple):
    """Sums over examples, from which every figure of a row is made; float64 scalars."""

    log_likelihood: tf.Tensor
    kl: tf.Tensor
    snr_db: tf.Tensor
    examples: tf.Tensor
    samples: tf.Tensor

    def plus(self, other: Totals) -> Totals:
        """Of both."""
        return Totals(*map(tf.add, self, other))


def replica_loss(elbo_terms: ElboTerms, weight: tf.Tensor) -> tf.Tensor:
    """This replica's share of the mean objective over the global batch, a scalar in nats.

    `weight` is `[batch]`: one over the number of examples in the whole batch, or 0 for what fills it up.

    Gradients of replicas are summed, so each divides its *sum* by the size of the whole batch: the result
    does not depend on how the batch was divided, not even when a last, small batch is divided unevenly.
    """
    return tf.reduce_sum(weight * elbo_terms.objective)


class TrainState:
    """A model, its optimizer and the moving average of its weights under one strategy.

    `model` is trained; `averaged` is what is judged and heard, the same object where there is no average.
    """

    def __init__(self, config: Config, metadata: DatasetMetadata, strategy: tf.distribute.Strategy) -> None:
        self.config = config
        self.strategy = strategy
        self.evaluation_clips = max(EVALUATION_CLIPS, strategy.num_replicas_in_sync)
        tf.keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model: WaveformVAE = make_model(config, metadata)
            self.optimizer = _make_optimizer(config)
            self.optimizer.build(self.model.trainable_variables)
            self.averaged = self.model
            if config.ema_decay:
                self.averaged = make_model(config, metadata)
                self._begin_average()
        self._replica_gradients = (
            tf.function(self._summed_gradients, jit_compile=True) if config.jit else self._summed_gradients
        )

    @property
    def parts(self) -> dict[str, tf.Module | tf.keras.optimizers.Optimizer]:
        """All that has state, by its name in a checkpoint."""
        parts = {"model": self.model, "optimizer": self.optimizer}
        return parts | ({AVERAGED: self.averaged} if self.config.ema_decay else {})

    def init_from(self, run: Path) -> None:
        """Copy the weights for inference of another run in a local folder; the shapes must agree.

        Raises:
            CommandError: `run` is not a run (exit code 3).
        """
        described = run_config.load(run)
        if described is None:
            raise CommandError(f"{run} has no {run_config.CONFIG_NAME}: it is not a run", BAD_DATA)
        restore_for_inference(self.model, run, described.config)
        self._begin_average()

    @property
    def steps(self) -> int:
        """Of the optimizer, since the run began."""
        return int(self.optimizer.iterations.numpy())

    @tf.function(autograph=False)
    def train_step(self, batch: Batch, step: tf.Tensor, beta: tf.Tensor) -> Totals:
        """One step of the optimizer on a global batch, divided among the replicas."""

        def replica_step(batch: Batch) -> Totals:
            noise = self._noise(batch, self.config.batch_size, step)
            gradients, sums = self._replica_gradients(batch, noise, beta)
            if _scales(self.optimizer):
                gradients = self.optimizer.get_unscaled_gradients(gradients)
            self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
            return sums

        sums = self.strategy.run(replica_step, args=(batch,))
        if self.config.ema_decay:
            self._move_average(tf.cast(step, tf.float32))
        return self._reduce(sums)

    @tf.function(autograph=False)
    def evaluation_step(self, batch: Batch) -> Totals:
        """ELBO and SNR of whole clips, by the averaged weights."""

        def replica_step(batch: Batch) -> Totals:
            noise = self._noise(batch, self.evaluation_clips, tf.constant(EVALUATION_STEP, tf.int32))
            elbo_terms = self.averaged.elbo_terms(batch.audio, batch.condition, noise, tf.constant(1.0))
            snr_db = distances.snr_db(batch.audio, self.averaged.reconstruct(batch.audio, batch.condition))
            return _totals(batch, elbo_terms, snr_db)

        return self._reduce(self.strategy.run(replica_step, args=(batch,)))

    @tf.function(autograph=False)
    def is_finite(self) -> tf.Tensor:
        """Whether every weight is a number, a boolean scalar: one answer of the device for all."""
        weights = [*self.model.trainable_variables, *self.averaged.trainable_variables]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(weight)) for weight in weights])

    def _summed_gradients(
        self, batch: Batch, noise: tf.Tensor, beta: tf.Tensor
    ) -> tuple[list[tf.Tensor], Totals]:
        """Of this replica's whole batch, part after part: the examples' weights make it the same sum."""
        count = self.config.accumulate_steps
        if count == 1:
            return self._gradients(batch, noise, beta)
        size = batch.position.shape[0]
        # Parts of one size, as a loop needs them; what fills them up weighs nothing.
        rows = tf.reshape(tf.range(count * -(-size // count)), [count, -1])
        real = tf.cast(rows < size, tf.float32)
        rows = tf.minimum(rows, size - 1)
        parts, noises = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), (batch, noise))
        parts = parts._replace(weight=parts.weight * real)

        def add(index: tf.Tensor, gradients: list[tf.Tensor], sums: Totals) -> tuple:
            part = tf.nest.map_structure(lambda tensor: tensor[index], parts)
            more, part_sums = self._gradients(part, noises[index], beta)
            gradients = [old + tf.convert_to_tensor(new) for old, new in zip(gradients, more, strict=True)]
            return index + 1, gradients, sums.plus(part_sums)

        gradients = [tf.zeros(weight.shape) for weight in self.model.trainable_variables]
        sums = Totals(*(tf.zeros([], tf.float64) for _ in Totals._fields))
        # One after the other: that the activations of one part alone are held is what this is for.
        _, gradients, sums = tf.while_loop(
            lambda index, *_: index < count, add, (tf.constant(0), gradients, sums), parallel_iterations=1
        )
        return gradients, sums

    def _gradients(self, batch: Batch, noise: tf.Tensor, beta: tf.Tensor) -> tuple[list[tf.Tensor], Totals]:
        with tf.GradientTape() as tape:
            elbo_terms = self.model.elbo_terms(batch.audio, batch.condition, noise, beta)
            value = replica_loss(elbo_terms, batch.weight)
            if _scales(self.optimizer):
                value = self.optimizer.get_scaled_loss(value)
        gradients = tape.gradient(value, self.model.trainable_variables)
        return gradients, _totals(batch, elbo_terms, tf.zeros_like(elbo_terms.log_likelihood))

    def _begin_average(self) -> None:
        for average, weight in zip(self.averaged.variables, self.model.variables, strict=True):
            average.assign(weight)

    def _move_average(self, step: tf.Tensor) -> None:
        """Polyak & Juditsky 1992, exponentially; young averages forget faster, lest they keep the start."""
        part = 1 - tf.minimum(self.config.ema_decay, (1 + step) / (10 + step))
        for average, weight in zip(self.averaged.variables, self.model.variables, strict=True):
            self.strategy.extended.update(
                average, lambda old, new: old.assign_sub(part * (old - new)), args=(weight,)
            )

    def _noise(self, batch: Batch, global_batch: int, step: tf.Tensor) -> tf.Tensor:
        """Standard normal noise of this replica's examples, `[batch, elbo_noise_size]`.

        Drawn for the whole global batch from (seed, step) and picked by position: the same for an example,
        however the batch is divided. Not within XLA, whose generator may be another.
        """
        size = self.model.elbo_noise_size(batch.audio.shape[-1])
        everyone = tf.random.stateless_normal([global_batch, size], [self.config.seed, step])
        return tf.gather(everyone, batch.position)

    def _reduce(self, sums: Totals) -> Totals:
        return Totals(*(self.strategy.reduce("SUM", value, axis=None) for value in sums))


def _make_optimizer(config: Config) -> tf.keras.optimizers.Optimizer:
    adam = FusedAdam(config.learning_rate, config.gradient_clip_norm or None)
    # float16 ends at 6e-8: gradients are computed some thousand times as large, and steps that overflow left
    # out (Micikevicius et al. 2018, section 3.2). bfloat16 has float32's range.
    return tf.keras.mixed_precision.LossScaleOptimizer(adam) if config.precision == "float16" else adam


def _scales(optimizer: tf.keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)


def _totals(batch: Batch, elbo_terms: ElboTerms, snr_db: tf.Tensor) -> Totals:
    real = tf.cast(batch.weight > 0, tf.float64)
    values = (elbo_terms.log_likelihood, tf.reduce_sum(elbo_terms.kl, axis=-1), snr_db)
    log_likelihood, kl, snr = (tf.reduce_sum(real * tf.cast(value, tf.float64)) for value in values)
    examples = tf.reduce_sum(real)
    return Totals(log_likelihood, kl, snr, examples, examples * batch.audio.shape[-1])
