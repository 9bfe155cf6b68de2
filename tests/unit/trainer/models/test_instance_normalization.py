"""The instance normalizations of both stacks are interchangeable; where there is one, it is held to the formula."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import METADATA, MODELS, SAMPLES, make_batch, normal, perturb

from trainer.models import layers, make_model
from trainer.models.hierarchical import encoder_decoder
from trainer.models.instance_normalization import InstanceNormalization

HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None
EPSILON = 1e-2
# The layer in use, which is that of tensorflow-addons where it is installed, and the one made of Keras's layers.
KINDS = {"in use": layers.InstanceNormalization, "keras": InstanceNormalization}
either_kind = pytest.mark.parametrize("kind", KINDS)


def built(kind, shape=(3, 40, 5), **options):
    """Return a layer with weights that are not 0 and 1."""
    layer = KINDS[kind](**options)
    layer(tf.zeros(shape))
    perturb(layer, stddev=0.3)
    return layer


def computed(layer, inputs):
    """Return the layer's output and the gradients of its input and weights, of a loss that weights each value."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        loss = tf.reduce_sum(outputs * normal(outputs.shape, 8))
    return [outputs, *tape.gradient(loss, [inputs, *layer.trainable_variables])]


def test_the_layer_of_tensorflow_addons_is_in_use_where_it_is_installed():
    module = layers.InstanceNormalization.__module__
    assert module.split(".")[0] == ("tensorflow_addons" if HAS_ADDONS else "trainer")


@either_kind
def test_each_channel_of_each_example_is_normalized_over_time(kind):
    layer, inputs = built(kind, epsilon=EPSILON), 3.0 * normal([3, 40, 5]) + 1.0
    x = inputs.numpy().astype(np.float64)
    gamma, beta = (weight.numpy().astype(np.float64) for weight in layer.trainable_variables)
    normalized = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPSILON)
    np.testing.assert_allclose(layer(inputs), gamma * normalized + beta, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(3, 40, 5), (2, 1, 7)], ids=str)
def test_outputs_and_gradients_of_both_layers_are_equal_to_rounding(shape):
    inputs = 3.0 * normal(list(shape)) + 1.0
    one, other = (computed(built(kind, shape, epsilon=EPSILON), inputs) for kind in KINDS)
    for values, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(values, expected, rtol=0, atol=2e-5)


@either_kind
def test_the_shape_is_known_in_a_graph_whose_batch_and_length_are_not(kind):
    layer = built(kind)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None, None, 5]))
    assert graph.outputs[0].shape.rank == 3
    np.testing.assert_allclose(graph(normal([4, 9, 5])), layer(normal([4, 9, 5])), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_both_layers_have_the_same_variables_and_load_each_others_checkpoints(
    name, monkeypatch, tmp_path
):
    audio, condition = make_batch()
    models, likelihoods, paths = [], [], []

    def log_likelihood(model):
        noise = normal([2, model.elbo_noise_size(SAMPLES)])
        return model.elbo_terms(audio, condition, noise, tf.constant(1.0)).log_likelihood

    for number, kind in enumerate(KINDS.values()):
        for module in (layers, encoder_decoder):
            monkeypatch.setattr(module, "InstanceNormalization", kind)
        tf.keras.backend.clear_session()  # the numbers in the names of layers begin anew
        model = make_model(MODELS[name], METADATA)
        perturb(model, stddev=0.03 * (number + 1))
        models.append(model)
        likelihoods.append(log_likelihood(model))
        paths.append(tf.train.Checkpoint(model=model).write(str(tmp_path / str(number))))
    one, other = ([(v.name, v.shape, v.dtype) for v in model.variables] for model in models)
    assert one == other
    for model, path, expected in zip(models, reversed(paths), reversed(likelihoods), strict=True):
        tf.train.Checkpoint(model=model).read(path).assert_consumed()
        np.testing.assert_allclose(log_likelihood(model), expected, rtol=1e-5)
