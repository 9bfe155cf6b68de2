import io

import librosa
import numpy as np
import pytest
import soundfile

from preprocessing.features.fingerprint import are_the_same, fingerprint, neighbours

RATE_HZ = 3_000


def melody(seed, secs=12.0, rate_hz=22_050):
    """Tones of changing pitch and level, two a second."""
    rng = np.random.default_rng(seed)
    notes = round(2 * secs)
    hz = np.repeat(rng.choice([110, 147, 196, 262, 330, 440], notes), rate_hz // 2)
    level = np.repeat(rng.uniform(0.1, 0.8, notes), rate_hz // 2)
    return level * np.sin(2 * np.pi * np.cumsum(hz) / rate_hz) * 0.6


def heard(stream):
    return librosa.load(stream, sr=RATE_HZ, mono=True)[0]


def through(waveform, rate_hz, kind, subtype):
    stream = io.BytesIO()
    resampled = librosa.resample(waveform, orig_sr=22_050, target_sr=rate_hz)
    soundfile.write(stream, resampled, rate_hz, format=kind, subtype=subtype)
    stream.seek(0)
    return heard(stream)


@pytest.mark.parametrize(
    ("rate_hz", "kind", "subtype"),
    [
        (22_050, "FLAC", "PCM_16"),
        (44_100, "WAV", "FLOAT"),
        (11_025, "AU", "ULAW"),
        (22_050, "OGG", "VORBIS"),
        (48_000, "OGG", "OPUS"),
        (22_050, "MP3", "MPEG_LAYER_III"),
        (22_050, "WAV", "IMA_ADPCM"),
    ],
)
def test_a_copy_in_another_container_is_found_and_proved(rate_hz, kind, subtype):
    original = through(melody(1), 22_050, "WAV", "PCM_16")
    copy = through(0.7 * melody(1), rate_hz, kind, subtype)
    others = [through(melody(seed), 22_050, "WAV", "PCM_16") for seed in (2, 3)]
    prints = [fingerprint(audio) for audio in (original, copy, *others)]
    assert neighbours(prints) == [(0, 1)]
    assert are_the_same(original, copy, RATE_HZ)


def test_what_only_has_the_same_shape_is_not_the_same():
    rng = np.random.default_rng(0)
    noises = rng.normal(0, 0.1, (2, 36_000)).astype(np.float32)
    assert neighbours([fingerprint(noise) for noise in noises]) == [(0, 1)]
    assert not are_the_same(*noises, RATE_HZ)
    tones = [0.5 * np.sin(2 * np.pi * hz * np.arange(36_000) / RATE_HZ) for hz in (440, 442)]
    assert not are_the_same(*tones, RATE_HZ)
    assert not are_the_same(np.zeros(100), np.zeros(100), RATE_HZ)


def test_what_all_sounds_alike_is_compared_with_few():
    rng = np.random.default_rng(0)
    noises = rng.normal(0, 0.1, (100, 36_000)).astype(np.float32)
    copy = 0.7 * noises[50] + rng.normal(0, 0.01, 36_000).astype(np.float32)  # as a codec leaves it
    pairs = neighbours([fingerprint(noise) for noise in (*noises, copy)])
    assert len(pairs) <= 16 * 101
    assert (50, 100) in pairs
    assert are_the_same(noises[50], copy, RATE_HZ)


def test_a_short_delay_is_a_copy_and_a_long_one_is_not():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 36_000)
    for samples, same in ((300, True), (-300, True), (3_000, False)):
        assert are_the_same(noise, np.roll(noise, samples), RATE_HZ) == same


def test_a_fingerprint_takes_any_length():
    for samples in (1, 31, 32, 1_000):
        assert len(fingerprint(np.full(samples, 0.1, np.float32))) == 128
    assert neighbours([]) == neighbours([fingerprint(np.ones(9, np.float32))]) == []
