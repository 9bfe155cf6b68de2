"""The state of a training (model, optimizer, averaged weights) and its two compiled steps; no files.

A training step is a pure function of weights, batch, (seed, step) and beta:

    batch, noise -> sum of the micro-batches' gradients -> sum over replicas -> optimizer -> average of weights
                    |------ one XLA program with jit ------|
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError, UsageError
from trainer import run_config
from trainer.config import Config
from trainer.data.input_pipeline import Batch
from trainer.dsp import distances
from trainer.models import make_model
from trainer.models.base import Stage, WaveformVAE
from trainer.run_config import DatasetMetadata
from trainer.runs.checkpoints import AVERAGED, restore_for_inference
from trainer.training.optimizer import FusedAdam
from trainer.training.schedule import generation_epochs
from trainer.training.totals import Totals, no_totals, replica_loss, sum_over_parts, totals_of

EVALUATION_CLIPS = 8  # global batch size of evaluation
EVALUATION_SAMPLES = 1_000_000  # that are evaluated at a time: whole clips take more memory than crops
EVALUATION_STEP = 2**31 - 1  # random key of evaluation, the same in each epoch and of no training step


class TrainState:
    """A model, its optimizer and the moving average of its weights under one strategy.

    Attributes:
        config: Of the run.
        strategy: Of all replicas.
        evaluation_clips: Global batch size of `evaluation_step`.
        model: The model that is trained.
        averaged: The model that is evaluated and generates, with averaged weights; `model` itself if the run does
            not average them.
        optimizer: Of `model`.
    """

    def __init__(self, config: Config, metadata: DatasetMetadata, strategy: tf.distribute.Strategy) -> None:
        self.config = config
        self.strategy = strategy
        self.evaluation_clips = max(EVALUATION_CLIPS, strategy.num_replicas_in_sync)
        tf.keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model: WaveformVAE = make_model(config, metadata)
            if generation_epochs(config) and not self.model.variables_of(Stage.GENERATION):
                raise UsageError(f"`preset` {config.preset} has a single stage: set `generation_share` to 0")
            self.optimizer = _make_optimizer(config)
            self.optimizer.build(self.model.trainable_variables)
            self.averaged = self.model
            if config.ema_decay:
                self.averaged = make_model(config, metadata)
                self._reset_average()
        self._replica_gradients = (
            tf.function(self._summed_gradients, autograph=False, jit_compile=True)
            if config.jit
            else self._summed_gradients
        )

    @property
    def trackables(self) -> dict[str, tf.Module | tf.keras.optimizers.Optimizer]:
        """All objects with state, by their names in a checkpoint."""
        trackables = {"model": self.model, "optimizer": self.optimizer}
        return trackables | ({AVERAGED: self.averaged} if self.config.ema_decay else {})

    def init_from(self, run: Path) -> None:
        """Copy the weights that another run uses for inference.

        Args:
            run: A local run directory; its model must have weights of the same shapes.

        Raises:
            CommandError: `run` is not a run, or is of another model (exit code 3).
        """
        source = run_config.load(run)
        if source is None:
            raise DataError(f"{run} has no {CONFIG_NAME}: it is not a run")
        restore_for_inference(self.model, run, source.config)
        self._reset_average()

    @property
    def steps(self) -> int:
        """Number of training steps since the run began."""
        return int(self.optimizer.iterations.numpy())

    @tf.function(autograph=False)
    def train_step(
        self, batch: Batch, step: tf.Tensor, beta: tf.Tensor, stage: Stage = Stage.ALL_WEIGHTS
    ) -> Totals:
        """Update the weights by one global batch, which is divided among the replicas.

        Args:
            batch: Distributed, as from `distributed_iterator`.
            step: `[]` int32, number of the step from 0; key of its noise.
            beta: `[]` float32, weight of the KL terms.
            stage: Which weights are updated.

        Returns:
            Totals of the global batch.
        """

        def replica_step(batch: Batch) -> Totals:
            noise = self._noise(batch, self.config.batch_size, step)
            gradients, sums = self._replica_gradients(batch, noise, beta, stage)
            if _uses_loss_scaling(self.optimizer):
                gradients = self.optimizer.get_unscaled_gradients(gradients)
            self.optimizer.apply_gradients(zip(gradients, self._updated(stage), strict=True))
            return sums

        sums = self.strategy.run(replica_step, args=(batch,))
        if self.config.ema_decay:
            self._update_average(tf.cast(step, tf.float32))
        return self._reduce(sums)

    @tf.function(autograph=False)
    def evaluation_step(self, batch: Batch) -> Totals:
        """Compute ELBO and SNR of whole clips with the averaged weights.

        Args:
            batch: Distributed, with a global batch of at most `evaluation_clips`.

        Returns:
            Totals of the global batch.
        """

        def replica_step(batch: Batch) -> Totals:
            noise = self._noise(batch, self.evaluation_clips, tf.constant(EVALUATION_STEP, tf.int32))
            size, samples = batch.audio.shape
            parts = -(-size // max(1, EVALUATION_SAMPLES // samples))
            return sum_over_parts(evaluate, batch, noise, parts, no_totals())

        def evaluate(batch: Batch, noise: tf.Tensor) -> Totals:
            elbo_terms = self.averaged.elbo_terms(batch.audio, batch.condition, noise, tf.constant(1.0))
            snr_db = distances.snr_db(batch.audio, self.averaged.reconstruct(batch.audio, batch.condition))
            return totals_of(batch, elbo_terms, snr_db)

        return self._reduce(self.strategy.run(replica_step, args=(batch,)))

    @tf.function(autograph=False)
    def is_finite(self) -> tf.Tensor:
        """Tell whether all weights are finite, in a boolean scalar: one transfer from the device for all of them."""
        weights = [*self.model.trainable_variables, *self.averaged.trainable_variables]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(weight)) for weight in weights])

    def _summed_gradients(
        self, batch: Batch, noise: tf.Tensor, beta: tf.Tensor, stage: Stage
    ) -> tuple[list[tf.Tensor], Totals]:
        """Sum the gradients of this replica's batch over micro-batches."""
        zeros = [tf.zeros(weight.shape) for weight in self._updated(stage)], no_totals()

        def gradients(batch: Batch, noise: tf.Tensor) -> tuple[list[tf.Tensor], Totals]:
            return self._gradients(batch, noise, beta, stage)

        return sum_over_parts(gradients, batch, noise, self.config.accumulate_steps, zeros)

    def _gradients(
        self, batch: Batch, noise: tf.Tensor, beta: tf.Tensor, stage: Stage
    ) -> tuple[list[tf.Tensor], Totals]:
        with tf.GradientTape() as tape:
            elbo_terms = self.model.elbo_terms(batch.audio, batch.condition, noise, beta, stage)
            loss = replica_loss(elbo_terms, batch.weight)
            if _uses_loss_scaling(self.optimizer):
                loss = self.optimizer.get_scaled_loss(loss)
        gradients = tape.gradient(loss, self._updated(stage))
        return gradients, totals_of(batch, elbo_terms, tf.zeros_like(elbo_terms.log_likelihood))

    def _updated(self, stage: Stage) -> list[tf.Variable]:
        return self.model.variables_of(stage)

    def _reset_average(self) -> None:
        for average, weight in zip(self.averaged.variables, self.model.variables, strict=True):
            average.assign(weight)

    def _update_average(self, step: tf.Tensor) -> None:
        """Update the exponential moving average of the weights (Polyak & Juditsky 1992).

        The decay grows over the first steps, so that the initial weights are soon forgotten.
        """
        rate = 1 - tf.minimum(self.config.ema_decay, (1 + step) / (10 + step))
        for average, weight in zip(self.averaged.variables, self.model.variables, strict=True):
            self.strategy.extended.update(
                average, lambda old, new: old.assign_sub(rate * (old - new)), args=(weight,)
            )

    def _noise(self, batch: Batch, global_batch: int, step: tf.Tensor) -> tf.Tensor:
        """Draw standard normal noise of this replica's examples, `[batch, elbo_noise_size]`.

        It is drawn for the global batch from (seed, step) and gathered by position, so that an example has the same
        noise however the batch is divided; and outside XLA, whose random generator may differ.
        """
        size = self.model.elbo_noise_size(batch.audio.shape[-1])
        global_noise = tf.random.stateless_normal([global_batch, size], [self.config.seed, step])
        return tf.gather(global_noise, batch.position)

    def _reduce(self, sums: Totals) -> Totals:
        return Totals(*(self.strategy.reduce("SUM", value, axis=None) for value in sums))


def _make_optimizer(config: Config) -> tf.keras.optimizers.Optimizer:
    adam = FusedAdam(config.learning_rate, config.gradient_clip_norm or None)
    # Gradients below 6e-8 vanish in float16: the loss is scaled up by some thousands, and steps whose gradients
    # overflow are skipped (Micikevicius et al. 2018, section 3.2). bfloat16 has the range of float32.
    return tf.keras.mixed_precision.LossScaleOptimizer(adam) if config.precision == "float16" else adam


def _uses_loss_scaling(optimizer: tf.keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
