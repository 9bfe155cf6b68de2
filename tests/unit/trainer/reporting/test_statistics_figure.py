import numpy as np
from PIL import Image

from trainer.reporting.statistics_figure import COLOURS, draw_statistics

NAMES = ["flatness_db", "partial_duration_secs", "pulse_strength", "novelty"]


def colours(path):
    with Image.open(path) as picture:
        return set(picture.convert("RGB").get_flattened_data())


def rgb(colour):
    return tuple(int(colour[first : first + 2], 16) for first in (1, 3, 5))


def test_every_set_has_its_colour(tmp_path):
    rng = np.random.default_rng(0)
    sets = {label: rng.normal(size=(30, 4)) for label in ("real", "oracle", "new")}
    draw_statistics(tmp_path / "three.png", sets, NAMES)
    draw_statistics(tmp_path / "two.png", {label: sets[label] for label in ("real", "oracle")}, NAMES)

    def shows(name, colour):
        return any(np.abs(np.subtract(rgb(colour), found)).max() <= 6 for found in colours(tmp_path / name))

    assert [shows("three.png", colour) for colour in COLOURS] == [True, True, True]
    assert [shows("two.png", colour) for colour in COLOURS] == [True, True, False]


def test_statistics_that_cannot_be_measured_leave_an_empty_panel(tmp_path):
    missing = np.full([5, 4], np.nan)
    draw_statistics(tmp_path / "a.png", {"real": missing, "new": missing}, NAMES)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1_200, 500)
