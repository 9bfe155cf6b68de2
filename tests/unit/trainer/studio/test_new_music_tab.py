import pytest

from trainer.studio.new_music_tab import slider_range


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (62.5, 170.4545, (63, 170, 1)),
        (-14.7321, -12.4111, (-14.73, -12.42, 0.01)),
        (281.03, 702.9, (282, 702, 1)),
        (-20.001, -19.98, (-20.001, -19.98, 0.0001)),
    ],
)
def test_the_range_of_a_slider_has_round_numbers_within_that_of_the_dataset(low, high, expected):
    assert slider_range(low, high) == pytest.approx(expected)
    assert low <= slider_range(low, high)[0] < slider_range(low, high)[1] <= high
