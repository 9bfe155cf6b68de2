import numpy as np
import pytest
import tensorflow as tf

from trainer.models.gru import GRU

STEPS, UNITS, INPUTS = 23, 16, 5


@pytest.fixture
def both():
    """This layer and Keras's, with the same weights, none of which is zero."""
    layers = GRU(UNITS), tf.keras.layers.GRU(UNITS, return_sequences=True)
    for layer in layers:
        layer.build(tf.TensorShape([None, STEPS, INPUTS]))
        for index, weight in enumerate(layer.trainable_variables):
            weight.assign(tf.random.stateless_normal(weight.shape, [3, index], stddev=0.4))
    return layers


def outputs_and_gradients(layer, inputs):
    @tf.function(autograph=False)
    def run(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            states = layer(inputs)
            # Every state counts, each in its own way.
            value = tf.reduce_sum(tf.sin(tf.cumsum(states, axis=1)) * states)
        return states, *tape.gradient(value, [inputs, *layer.trainable_variables])

    return [result.numpy() for result in run(inputs)]


@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_states_and_gradients_are_those_of_keras(both, steps):
    inputs = tf.random.stateless_normal([3, steps, INPUTS], [1, 2])
    own, keras = (outputs_and_gradients(layer, inputs) for layer in both)
    for one, other in zip(own, keras, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_any_number_of_steps_is_one_trace(both):
    layer = both[0]
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, INPUTS])])
    for steps in (2, 7):
        inputs = tf.random.stateless_normal([2, steps, INPUTS], [4, steps])
        np.testing.assert_allclose(run(inputs), both[1](inputs), rtol=1e-4, atol=1e-5)


def test_saved_weights_are_those_of_keras(both, tmp_path):
    own, keras = both
    path = tf.train.Checkpoint(layer=keras).write(str(tmp_path / "weights"))
    for weight in own.trainable_variables:
        weight.assign(tf.zeros_like(weight))
    tf.train.Checkpoint(layer=own).read(path).assert_consumed()
    for one, other in zip(own.trainable_variables, keras.trainable_variables, strict=True):
        assert one.name.split("/", 1)[1] == other.name.split("/", 1)[1]
        np.testing.assert_array_equal(one, other)
