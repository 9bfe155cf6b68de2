import dataclasses
import math

import numpy as np
import pytest
from support.runs.tiny_models import METADATA

from preprocessing.dataset.keys import KEYS
from preprocessing.errors import USAGE, CommandError
from trainer.conditioning import (
    BEAT_CLARITY,
    DROPPED_KEY,
    TEMPO,
    attribute_of,
    check_supported,
    complete_condition,
    guidance_of,
    make_condition,
)
from trainer.config import GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, UNCONDITIONAL_GUIDANCE

ROWS = [
    {
        "genre": "jazz",
        **dict.fromkeys(METADATA.attributes),
        TEMPO: 90.0,
        BEAT_CLARITY: 0.25,
        "key": "A minor",
    },
    {"genre": "rock", **dict.fromkeys(METADATA.attributes), "key": None},
]


LOUDNESS = "loudness_db"


def open_condition(count):
    return make_condition(METADATA, True, count)


def values_of(condition, name):
    statistics = METADATA.attributes[name]
    column = np.array(condition.attributes)[:, list(METADATA.attributes).index(name)]
    return column * statistics.std + statistics.mean


def test_all_conditions_of_a_training_clip_are_drawn_together():
    metadata = dataclasses.replace(METADATA, empirical_conditions=ROWS)
    condition = complete_condition(metadata, open_condition(8), np.arange(8) / 8)
    tempo = values_of(condition, TEMPO)
    assert {metadata.genres[genre] for genre in condition.genre} == {"jazz", "rock"}
    np.testing.assert_array_equal(np.isnan(tempo), np.array(condition.genre) == metadata.genres.index("rock"))
    np.testing.assert_allclose(tempo[~np.isnan(tempo)], 90, rtol=1e-5)
    np.testing.assert_allclose(values_of(condition, BEAT_CLARITY)[~np.isnan(tempo)], 0.25, rtol=1e-5)
    is_minor = np.array(condition.key) == KEYS.index("A minor")
    np.testing.assert_array_equal(is_minor, ~np.isnan(tempo))
    assert {*np.array(condition.key)[~is_minor]} == {DROPPED_KEY}


def test_the_beat_of_a_specified_tempo_is_clear_unless_its_clarity_is_specified():
    metadata = dataclasses.replace(METADATA, empirical_conditions=ROWS)
    clarity = [math.nan, 0.5, math.nan]
    specified = make_condition(
        metadata, True, 3, "jazz", {TEMPO: [100.0, 100.0, math.nan], BEAT_CLARITY: clarity}
    )
    condition = complete_condition(metadata, specified, np.zeros(3))
    np.testing.assert_allclose(values_of(condition, BEAT_CLARITY), [1.0, 0.5, 0.25], rtol=1e-5)


def test_what_is_left_open_with_a_key_is_of_clips_with_near_keys():
    rows = [
        {"genre": "jazz", **dict.fromkeys(METADATA.attributes), TEMPO: 80.0 + number, "key": key}
        for number, key in enumerate([*KEYS, *[None] * 8])
    ]
    metadata = dataclasses.replace(METADATA, empirical_conditions=rows)
    condition = complete_condition(
        metadata, make_condition(metadata, True, 32, key="a minor"), np.arange(32) / 32
    )
    assert {*np.array(condition.key)} == {KEYS.index("A minor")}
    near = {KEYS[round(tempo) - 80] for tempo in values_of(condition, TEMPO)}
    assert {"A minor", "C major", "E minor", "D minor", "F major"} < near
    assert len(near) == 8  # a quarter of the clips
    assert not near & {"D# minor", "F# major", "A# major"}


def test_keys_that_no_training_clip_has_are_refused():
    check_supported(METADATA, None, ["C major", None, "a minor"])
    with pytest.raises(CommandError, match=r"has the key F# minor: their keys are C major, G major, A minor"):
        check_supported(METADATA, None, "F# minor")
    with pytest.raises(CommandError, match=r"is not a key: write a tonic"):
        make_condition(METADATA, True, 1, key="H minor")
    with pytest.raises(CommandError, match=r"2 clips need 2 keys"):
        make_condition(METADATA, True, 2, key=["C major"])
    with pytest.raises(CommandError, match=r"was not trained on genres, attributes and keys"):
        make_condition(METADATA, False, 1, key="C major")


def test_what_is_specified_stays_and_the_rest_is_of_near_clips_of_the_genre():
    rows = [
        {
            "genre": genre,
            BEAT_CLARITY: 1.0,
            "centroid_hz": None,
            LOUDNESS: -30.0 + number,
            TEMPO: 80.0 + number,
            "key": None,
        }
        for genre in ("jazz", "rock")
        for number in range(20)
    ]
    metadata = dataclasses.replace(METADATA, empirical_conditions=rows)
    specified = make_condition(metadata, True, 30, "rock", {LOUDNESS: -30.0})
    condition = complete_condition(metadata, specified, np.arange(30) / 30)
    assert {metadata.genres[genre] for genre in condition.genre} == {"rock"}
    np.testing.assert_allclose(values_of(condition, LOUDNESS), -30.0, rtol=1e-5)
    assert set(np.round(values_of(condition, TEMPO))) == set(range(80, 85))  # a quarter of the clips
    np.testing.assert_allclose(attribute_of(metadata, condition, "loudness_db"), -30.0, rtol=1e-5)
    two = [math.nan, 0.0, math.nan]  # of the three clips, only the second has a tempo
    mixed = make_condition(metadata, True, 3, ["rock", None, "rock"], {TEMPO: two})
    condition = complete_condition(metadata, mixed, np.full(3, 0.999))
    assert [metadata.genres[genre] for genre in condition.genre][::2] == ["rock", "rock"]
    np.testing.assert_allclose(values_of(condition, TEMPO), [99, 0, 99], rtol=1e-5)


def test_attributes_outside_of_the_training_clips_are_refused():
    statistics = METADATA.attributes[TEMPO]
    check_supported(METADATA, {TEMPO: [statistics.low, statistics.high], LOUDNESS: None}, None)
    for value in (statistics.low - 1, statistics.high + 1, math.nan):
        with pytest.raises(CommandError, match=r"outside of what this run was trained on") as caught:
            check_supported(METADATA, {TEMPO: value}, None)
        assert caught.value.exit_code == USAGE


def test_guidance_scales_what_is_specified():
    def scales(genre=None, attributes=None, guidance=None, key=None):
        guided = guidance_of(make_condition(METADATA, True, 2, genre, attributes, key), guidance)
        (of_first,) = {*zip(*(map(float, scale) for scale in guided), strict=True)}
        return of_first

    assert scales() == (UNCONDITIONAL_GUIDANCE, 1.0, 1.0)
    assert scales("rock") == (GUIDANCE, 1.0, 1.0)
    assert scales("rock", {TEMPO: 100.0}) == (GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, 1.0)
    assert scales(None, {TEMPO: 100.0}) == (UNCONDITIONAL_GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, 1.0)
    assert scales("rock", {TEMPO: 100.0}, 1.5) == (1.5, 1.5, 1.0)
    assert scales(key="G major") == (UNCONDITIONAL_GUIDANCE, 1.0, MAX_ATTRIBUTE_GUIDANCE)
    assert scales(key="G major", guidance=0.5) == (0.5, 1.0, 0.5)
    assert scales(None, None, 0.0) == (0.0, 1.0, 1.0)


def test_each_clip_is_guided_by_what_is_specified_of_it():
    condition = make_condition(METADATA, True, 3, ["rock", None, None], {TEMPO: [math.nan, 100.0, math.nan]})
    guided = guidance_of(condition, None)
    np.testing.assert_allclose(guided.genre, [GUIDANCE, UNCONDITIONAL_GUIDANCE, UNCONDITIONAL_GUIDANCE])
    np.testing.assert_allclose(guided.attributes, [1.0, MAX_ATTRIBUTE_GUIDANCE, 1.0])
    np.testing.assert_allclose(
        guidance_of(condition, [0.5, math.nan, 3.0]).genre, [0.5, UNCONDITIONAL_GUIDANCE, 3]
    )
