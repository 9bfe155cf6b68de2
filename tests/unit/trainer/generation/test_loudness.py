import numpy as np
import pytest

from trainer.generation.loudness import CEILING, limit_peaks, set_loudness

RATE_HZ = 3_000


def music(seed=0, level=0.1):
    rng = np.random.default_rng(seed)
    beats = np.repeat(rng.uniform(0.1, 1.0, 30), 500)
    return (level * beats * rng.standard_normal(15_000)).astype(np.float32)


def level_db(clip):
    return 20 * np.log10(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))


@pytest.mark.parametrize("loudness_db", [-40.0, -20.0, -10.0, -7.0])
def test_loudness_is_what_was_asked_and_nothing_clips(loudness_db):
    (clip,) = set_loudness(music()[np.newaxis], np.array([loudness_db]), RATE_HZ).numpy()
    assert level_db(clip) == pytest.approx(loudness_db, abs=1.0)
    assert np.abs(clip).max() <= CEILING + 1e-6


def test_a_clip_without_a_target_keeps_its_level():
    clips = np.stack([music(0), music(1, level=0.9), np.zeros(15_000, np.float32)])
    result = set_loudness(clips, np.full(3, np.nan), RATE_HZ).numpy()
    np.testing.assert_array_equal(result[[0, 2]], clips[[0, 2]])
    assert np.abs(result[1]).max() <= CEILING + 1e-6
    assert not set_loudness(clips[2:], np.array([-10.0]), RATE_HZ).numpy().any()


def test_a_peak_is_turned_down_smoothly_and_alone():
    clip = np.full(3_000, 0.1, np.float32)
    clip[1_500] = 2.0
    (limited,) = limit_peaks(clip[np.newaxis], RATE_HZ).numpy()
    assert np.abs(limited).max() <= CEILING + 1e-6
    far = np.abs(np.arange(3_000) - 1_500) > 100
    np.testing.assert_array_equal(limited[far], clip[far])
    assert np.abs(np.diff(limited[1_510:])).max() < 0.01
