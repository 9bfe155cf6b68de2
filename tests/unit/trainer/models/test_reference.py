import dataclasses

import numpy as np
import tensorflow as tf
from support.runs.tiny_models import METADATA, make_batch

from trainer.models import make_model
from trainer.models.layers import Resnet1DBlock
from trainer.presets import PRESETS


def test_the_parameter_count_and_layers_are_the_notebooks():
    model = make_model(PRESETS["reference"], dataclasses.replace(METADATA, clip_samples=90_001))
    assert model.parameter_count() == 12_120_133
    assert model.values_per_clip(90_001) == 2
    layer_types = {type(layer).__name__ for layer in model.submodules}
    assert {
        "InstanceNormalization",
        "ConstantBatchNormalization",
        "Conv1DTranspose",
        "LeakyReLU",
    } <= layer_types


def test_the_likelihood_is_bernoulli_on_logits():
    model = make_model(PRESETS["reference"], METADATA)
    audio, condition = make_batch()
    latents = model.encode(audio, condition)
    logits = model.logits(latents).numpy().astype(np.float64)
    x = audio.numpy().astype(np.float64)
    probability = 1 / (1 + np.exp(-logits))
    expected = (x * np.log(probability) + (1 - x) * np.log(1 - probability)).sum(axis=1)
    terms = model.elbo_terms(audio, condition, tf.zeros([2, 2]), tf.constant(1.0))
    np.testing.assert_allclose(terms.log_likelihood, expected, rtol=1e-4)
    decoded = model.decode(latents, condition, METADATA.clip_samples, tf.zeros([2, 0]))
    np.testing.assert_allclose(decoded, probability, rtol=1e-4)


def test_the_caveat_warns_of_the_unbounded_likelihood():
    assert "no lower bound" in make_model(PRESETS["reference"], METADATA).caveat


def test_residual_blocks_keep_the_shape():
    assert Resnet1DBlock(64, 1, "encode")(tf.ones([2, 1, 64])).shape == (2, 1, 64)
    assert Resnet1DBlock(64, 1, "decode")(tf.ones([2, 1, 128])).shape == (2, 1, 128)
