import json
import math

import pytest

from preprocessing.event_log import without_nan
from trainer.registry.promotion import METRICS, Criteria, SetComparison, decide, gain

CRITERIA = Criteria("snr_db", min_gain=0.02, max_loss=0.1)
FIGURES = {
    "snr_db": 6.0,
    "stft_distance": 1.2,
    "log_mel_distance_db": 5.0,
    "frechet_log_mel": 100.0,
    "musical_distance": 0.5,
}


def comparison(name="the new clips", **candidate):
    return SetComparison(name, "0" * 64, 10, FIGURES, {**FIGURES, **candidate})


def test_a_smaller_error_is_a_gain_for_metrics_of_either_direction():
    better = {
        "snr_db": 7.0,
        "stft_distance": 1.1,
        "log_mel_distance_db": 4.5,
        "frechet_log_mel": 81.0,
        "musical_distance": 0.45,
    }
    for name in METRICS:
        assert gain(name, FIGURES[name], better[name]) > 0 > gain(name, better[name], FIGURES[name])
    assert gain("stft_distance", 1.0, 0.98) == pytest.approx(0.02)
    assert gain("frechet_log_mel", 100.0, 81.0) == pytest.approx(0.1)  # a squared distance
    assert gain("snr_db", 6.0, 6.0 + 20 * math.log10(1 / 0.9)) == pytest.approx(0.1)
    assert gain("snr_db", -3.0, -3.0) == 0


def test_a_candidate_with_a_metric_that_is_not_finite_is_not_promoted():
    assert gain("snr_db", 6.0, math.nan) == -math.inf
    assert gain("snr_db", math.nan, math.nan) == -math.inf
    assert gain("snr_db", math.nan, 6.0) == math.inf
    assert gain("stft_distance", 0.0, 0.0) == 0
    assert gain("stft_distance", 0.0, 0.1) == -math.inf
    promoted, reason = decide([comparison(snr_db=math.nan)], CRITERIA)
    assert not promoted
    assert "no finite error in snr_db" in reason


@pytest.mark.parametrize(
    ("sets", "promoted", "expected"),
    [
        ([comparison(snr_db=6.3)], True, "3.4% less error in snr_db on the new clips"),
        (
            [comparison(snr_db=6.1)],
            False,
            "1.1% less error in snr_db on the new clips; at least 2.0% less is required",
        ),
        ([comparison(snr_db=5.9)], False, "1.2% more error"),
        ([comparison(snr_db=6.3, stft_distance=1.3)], True, "snr_db"),
        ([comparison(snr_db=6.3, stft_distance=1.4)], False, "16.7% more error in stft_distance"),
        # The chosen metric need not gain on the champion's own clips, but must not lose there.
        ([comparison(snr_db=6.3), comparison("the champion's clips", snr_db=5.8)], True, "snr_db"),
        (
            [comparison(snr_db=9.0), comparison("the champion's clips", snr_db=4.0)],
            False,
            "the champion's clips",
        ),
    ],
)
def test_a_candidate_must_gain_in_the_chosen_metric_and_not_lose_too_much_in_any(sets, promoted, expected):
    is_promoted, reason = decide(sets, CRITERIA)
    assert is_promoted is promoted
    assert expected in reason


def test_the_first_candidate_must_be_better_than_silence():
    def decide_first(**figures):
        return decide([SetComparison("the new clips", "0" * 64, 10, None, {**FIGURES, **figures})], CRITERIA)

    assert decide_first()[0]
    assert "silence" in decide_first(snr_db=-0.1)[1]
    assert not decide_first(snr_db=-0.1)[0]
    assert not decide_first(frechet_log_mel=math.inf)[0]


def test_a_promotion_decision_is_strict_json():
    entry = comparison(snr_db=math.nan).to_json()
    decoded = json.loads(json.dumps(without_nan(entry), allow_nan=False))
    assert decoded["candidate"]["snr_db"] is None
    assert decoded["gains"]["stft_distance"] == 0
