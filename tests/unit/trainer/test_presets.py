import dataclasses

import pytest

from preprocessing.errors import USAGE, CommandError
from trainer.presets import PRESETS, SAMPLE_RATES_HZ, check_sample_rate


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_used_at_the_rates_that_it_is_made_for(preset):
    low_hz, high_hz = SAMPLE_RATES_HZ[preset]
    for rate_hz in (low_hz, high_hz):
        assert check_sample_rate(PRESETS[preset], rate_hz) is None
    for rate_hz in (low_hz - 1, high_hz + 1):
        with pytest.raises(CommandError, match="is made for"):
            check_sample_rate(PRESETS[preset], rate_hz)


@pytest.mark.parametrize(
    ("preset", "rate_hz", "advice"),
    [
        ("wave-large", 3_000, "use `preset` wave, or preprocess with `sample_rate_hz` 22050"),
        ("wave", 22_050, "use `preset` wave-large, or preprocess with `sample_rate_hz` 3000"),
    ],
)
def test_another_rate_is_refused_with_what_to_do_unless_the_hop_is_adapted(preset, rate_hz, advice):
    with pytest.raises(CommandError, match=advice) as caught:
        check_sample_rate(PRESETS[preset], rate_hz)
    assert caught.value.exit_code == USAGE
    check_sample_rate(dataclasses.replace(PRESETS[preset], hop_samples=333), rate_hz)
