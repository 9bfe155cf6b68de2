import dataclasses

import numpy as np
import pytest

from preprocessing.errors import USAGE, CommandError
from trainer.config import MAX_SEED, Config
from trainer.presets import PRESETS


def test_the_reference_preset_has_the_notebooks_settings():
    reference = PRESETS["reference"]
    assert (reference.epochs, reference.batch_size, reference.learning_rate, reference.latent_dim) == (
        20,
        8,
        3e-4,
        2,
    )
    assert reference.crop_samples == 0


def test_each_preset_has_the_name_of_its_key():
    assert {name: config.preset for name, config in PRESETS.items()} == {name: name for name in PRESETS}
    assert PRESETS[Config().preset] == Config()


def test_numbers_of_numpy_become_those_of_python():
    config = Config(epochs=np.int64(3), learning_rate=np.float32(0.5), beta=1)
    assert [type(value) for value in (config.epochs, config.learning_rate, config.beta)] == [
        int,
        float,
        float,
    ]


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"epochs": 1.5}, "`epochs` must be an integer, not 1.5"),
        ({"epochs": True}, "`epochs` must be an integer, not True"),
        ({"jit": "false"}, "`jit` must be true or false, not 'false'"),
        ({"learning_rate": "1e-3"}, "`learning_rate` must be a number, not '1e-3'"),
        ({"epochs": 0}, "`epochs` must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number, not nan"),
        ({"beta": float("inf")}, "`beta` must be a finite number, not inf"),
        ({"sparse_coefficients": 999}, "`sparse_coefficients` 999 exceeds the 256 coefficients of a step"),
        ({"hop_samples": 33}, "`hop_samples` must be even, not 33"),
        ({"beta": -1}, "`beta` must be at least 0, not -1"),
        ({"crop_samples": 9}, "`crop_samples` 9 is shorter than a step of 256 samples"),
        ({"condition_dropout": 1.5}, "`condition_dropout` must be at least 0 and at most 1, not 1.5"),
        ({"precision": "float8"}, "`precision` must be one of float32, bfloat16, float16, not float8"),
        ({"accumulate_steps": 0}, "`accumulate_steps` must be at least 1, not 0"),
        ({"ema_decay": 1.0}, "`ema_decay` must be at least 0 and below 1, not 1.0"),
        ({"seed": MAX_SEED + 1}, "`seed` must be at least 0 and at most 2147483647, not 2147483648"),
        ({"input_shards": 3}, "`batch_size` 8 cannot be divided among `input_shards` 3"),
    ],
)
def test_the_error_for_an_invalid_setting_names_the_argument_and_its_limits(invalid, message):
    with pytest.raises(CommandError) as caught:
        Config(**invalid)
    assert caught.value.exit_code == USAGE
    assert str(caught.value).startswith(message)


def test_inclusive_limits_are_valid():
    limits = {"condition_dropout": 1.0, "seed": MAX_SEED, "ema_decay": 0.0, "epochs": 1, "clip_cache_gb": 0}
    config = Config(**limits)
    assert {name: getattr(config, name) for name in limits} == limits
    for name, value in limits.items():
        setting = Config.setting(name)
        assert value in (setting.minimum, setting.maximum), name


def test_every_number_has_limits_and_every_field_a_description():
    for field in dataclasses.fields(Config):
        setting = Config.setting(field.name)
        assert len(setting.description.split()) > 2
        limits = (setting.minimum, setting.maximum, setting.above, setting.below)
        assert any(limit is not None for limit in limits) == (type(field.default) in (int, float)), field.name


def test_fields_that_shape_weights_are_not_operational():
    shaping, operational = set(Config.weight_shape_fields()), set(Config.operational_fields())
    assert shaping and operational and not shaping & operational
    assert "channels" in shaping
    assert "clip_cache_gb" in operational
