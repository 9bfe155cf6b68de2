import dataclasses
import math

import numpy as np
import pytest
from support.tiny_models import METADATA

from preprocessing.errors import USAGE, CommandError
from trainer.conditioning import (
    TEMPO,
    check_attributes,
    complete_condition,
    guidance_of,
    loudness_of,
    make_condition,
)
from trainer.config import GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, UNCONDITIONAL_GUIDANCE

ROWS = [
    {"genre": "jazz", **dict.fromkeys(METADATA.attributes, None), TEMPO: 90.0},
    {"genre": "rock", **dict.fromkeys(METADATA.attributes, None), TEMPO: None},
]


LOUDNESS = "loudness_db"


def open_condition(count):
    return make_condition(METADATA, True, count)


def values_of(condition, name):
    statistics = METADATA.attributes[name]
    return condition.attributes[:, list(METADATA.attributes).index(name)] * statistics.std + statistics.mean


def test_all_conditions_of_a_training_clip_are_drawn_together():
    metadata = dataclasses.replace(METADATA, empirical_conditions=ROWS)
    condition = complete_condition(metadata, open_condition(8), 0.25)
    tempo = values_of(condition, TEMPO)
    assert {metadata.genres[genre] for genre in condition.genre} == {"jazz", "rock"}
    np.testing.assert_array_equal(np.isnan(tempo), condition.genre == metadata.genres.index("rock"))
    np.testing.assert_allclose(tempo[~np.isnan(tempo)], 90, rtol=1e-5)


def test_what_is_specified_stays_and_the_rest_is_of_near_clips_of_the_genre():
    rows = [
        {"genre": genre, "centroid_hz": None, LOUDNESS: -30.0 + number, TEMPO: 80.0 + number}
        for genre in ("jazz", "rock")
        for number in range(20)
    ]
    metadata = dataclasses.replace(METADATA, empirical_conditions=rows)
    specified = make_condition(metadata, True, 30, "rock", {LOUDNESS: -30.0})
    condition = complete_condition(metadata, specified, 0.0)
    assert {metadata.genres[genre] for genre in condition.genre} == {"rock"}
    np.testing.assert_allclose(values_of(condition, LOUDNESS), -30.0, rtol=1e-5)
    assert set(np.round(values_of(condition, TEMPO))) == set(range(80, 85))  # a quarter of the clips
    np.testing.assert_allclose(loudness_of(metadata, condition), -30.0, rtol=1e-5)
    fewer = complete_condition(metadata, make_condition(metadata, True, 3, "rock", {LOUDNESS: -30.0}), 0.0)
    np.testing.assert_array_equal(fewer.attributes, condition.attributes[:3])


def test_attributes_outside_of_the_training_clips_are_refused():
    statistics = METADATA.attributes[TEMPO]
    check_attributes(METADATA, {TEMPO: [statistics.low, statistics.high], LOUDNESS: None})
    for value in (statistics.low - 1, statistics.high + 1, math.nan):
        with pytest.raises(CommandError, match=r"outside of what this run was trained on") as caught:
            check_attributes(METADATA, {TEMPO: value})
        assert caught.value.exit_code == USAGE


def test_guidance_scales_what_is_specified():
    def scales(genre=None, attributes=None, guidance=None):
        return tuple(guidance_of(make_condition(METADATA, True, 2, genre, attributes), guidance))

    assert scales() == (UNCONDITIONAL_GUIDANCE, 1.0)
    assert scales("rock") == (GUIDANCE, 1.0)
    assert scales("rock", {TEMPO: 100.0}) == (GUIDANCE, MAX_ATTRIBUTE_GUIDANCE)
    assert scales(None, {TEMPO: 100.0}) == (UNCONDITIONAL_GUIDANCE, MAX_ATTRIBUTE_GUIDANCE)
    assert scales("rock", {TEMPO: 100.0}, 1.5) == (1.5, 1.5)
    assert scales(None, None, 0.0) == (0.0, 1.0)
