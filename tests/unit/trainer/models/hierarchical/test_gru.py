import numpy as np
import pytest
import tensorflow as tf

from trainer.models.hierarchical.gru import GRU

STEPS, UNITS, INPUTS = 23, 16, 5


@pytest.fixture
def both_layers():
    """This project's layer and Keras's, with the same weights, none of which is zero."""
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
            # Depends on every state, and on each differently.
            value = tf.reduce_sum(tf.sin(tf.cumsum(states, axis=1)) * states)
        return states, *tape.gradient(value, [inputs, *layer.trainable_variables])

    return [result.numpy() for result in run(inputs)]


@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_states_and_gradients_equal_those_of_keras(both_layers, steps):
    inputs = tf.random.stateless_normal([3, steps, INPUTS], [1, 2])
    own, keras = (outputs_and_gradients(layer, inputs) for layer in both_layers)
    for actual, expected in zip(own, keras, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_one_trace_serves_any_number_of_steps(both_layers):
    layer = both_layers[0]
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, INPUTS])])
    for steps in (2, 7):
        inputs = tf.random.stateless_normal([2, steps, INPUTS], [4, steps])
        np.testing.assert_allclose(run(inputs), both_layers[1](inputs), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_the_keras_layer_can_be_restored(both_layers, tmp_path):
    own, keras = both_layers
    path = tf.train.Checkpoint(layer=keras).write(str(tmp_path / "weights"))
    for weight in own.trainable_variables:
        weight.assign(tf.zeros_like(weight))
    tf.train.Checkpoint(layer=own).read(path).assert_consumed()
    for one, other in zip(own.trainable_variables, keras.trainable_variables, strict=True):
        assert one.name.split("/", 1)[1] == other.name.split("/", 1)[1]
        np.testing.assert_array_equal(one, other)
