import dataclasses

import pytest

from preprocessing.errors import USAGE, CommandError, UsageError
from trainer import presets
from trainer.config import Config
from trainer.presets import PRESETS, check_sample_rate, find_preset, register_preset


@pytest.mark.parametrize(
    ("preset", "low_hz", "high_hz"),
    [
        ("tiny", 1_000, 12_000),
        ("wave", 1_000, 12_000),
        ("wave-22khz", 12_000, 48_000),
        ("wave-large", 12_000, 48_000),
        ("reference", 1, 192_000),
    ],
)
def test_a_preset_is_used_at_the_rates_that_it_is_made_for(preset, low_hz, high_hz):
    for rate_hz in (low_hz, high_hz):
        assert check_sample_rate(PRESETS[preset], rate_hz) is None
    for rate_hz in (low_hz - 1, high_hz + 1):
        with pytest.raises(CommandError, match="is made for"):
            check_sample_rate(PRESETS[preset], rate_hz)


@pytest.mark.parametrize(
    ("preset", "rate_hz", "advice"),
    [
        ("wave-large", 3_000, "use `preset` wave, or preprocess with `sample_rate_hz` 22050"),
        ("wave", 22_050, "use `preset` wave-22khz, or preprocess with `sample_rate_hz` 3000"),
    ],
)
def test_another_rate_is_refused_with_what_to_do_unless_the_hop_is_adapted(preset, rate_hz, advice):
    with pytest.raises(CommandError, match=advice) as caught:
        check_sample_rate(PRESETS[preset], rate_hz)
    assert caught.value.exit_code == USAGE
    check_sample_rate(dataclasses.replace(PRESETS[preset], hop_samples=334), rate_hz)


def test_an_unknown_preset_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match="there is no preset waves: use wave"):
        find_preset("waves")


def test_a_preset_of_ones_own_is_replaced_but_none_of_the_programs(monkeypatch):
    for name in ("PRESETS", "_PURPOSES"):
        monkeypatch.setattr(presets, name, dict(getattr(presets, name)))
    for epochs in (3, 4):
        register_preset(Config(preset="own", epochs=epochs))
        assert find_preset("own").epochs == epochs
    with pytest.raises(UsageError, match="wave is a preset of this program"):
        register_preset(Config(epochs=3))
