import numpy as np
import pytest
import tensorflow as tf

from trainer.training.optimizer import FusedAdam
from trainer.training.workers.distribution import Distribution

SHAPES = ([7, 3], [3], [])
STEPS = 5


def variables_after_training(make_optimizer, strategy=None, sparse=False):
    """Return weights and moments by name, after some steps with a changing learning rate."""
    with (strategy or tf.distribute.get_strategy()).scope():
        weights = [
            tf.Variable(tf.random.stateless_normal(shape, [1, index]), name=f"weight{index}")
            for index, shape in enumerate(SHAPES)
        ]
        optimizer = make_optimizer()
        optimizer.build(weights)

    @tf.function(autograph=False)
    def step(number):
        def replica_step():
            # The sum over the replicas is that of a single replica.
            share = 1 / tf.distribute.get_replica_context().num_replicas_in_sync
            gradients = [
                share * tf.random.stateless_normal(shape, [number, index])
                for index, shape in enumerate(SHAPES)
            ]
            if sparse:
                gradients[0] = tf.IndexedSlices(gradients[0][:2], tf.constant([4, 1]), tf.constant([7, 3]))
            optimizer.apply_gradients(zip(gradients, weights, strict=True))

        (strategy or tf.distribute.get_strategy()).run(replica_step)

    for number in range(STEPS):
        optimizer.learning_rate.assign(0.1 / (1 + number))
        step(tf.constant(number))
    return {variable.name: variable.numpy() for variable in (*weights, *optimizer.variables)}


def keras_adam(clip_norm):
    return tf.keras.optimizers.Adam(0.1, global_clipnorm=clip_norm)


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, value in actual.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_weights_and_moments_equal_those_of_keras(clip_norm, sparse):
    assert_same(
        variables_after_training(lambda: FusedAdam(0.1, clip_norm), sparse=sparse),
        variables_after_training(lambda: keras_adam(clip_norm), sparse=sparse),
    )


def test_two_replicas_compute_what_one_computes():
    strategy = Distribution(None, 2).strategy
    assert_same(
        variables_after_training(lambda: FusedAdam(0.1, 0.5), strategy),
        variables_after_training(lambda: FusedAdam(0.1, 0.5)),
    )


def test_a_step_whose_scaled_gradients_overflow_is_skipped():
    weight = tf.Variable([1.0, 2.0])
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(FusedAdam(0.1), initial_scale=8.0)
    optimizer.build([weight])

    def step(*gradient):
        scaled = optimizer.get_scaled_loss(tf.constant(gradient))
        optimizer.apply_gradients(zip(optimizer.get_unscaled_gradients([scaled]), [weight], strict=True))

    step(np.inf, 1.0)
    np.testing.assert_array_equal(weight, [1.0, 2.0])
    assert float(optimizer.loss_scale) == 4.0
    step(3.0, -1.0)
    assert 0.9 < weight[0] < 1.0 and 2.0 < weight[1] < 2.1
