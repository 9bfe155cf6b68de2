import io

import librosa
import numpy as np
import pytest
import soundfile

from preprocessing.features import neighbors
from preprocessing.features.fingerprint import fingerprint, is_same_recording

RATE_HZ = 3_000


def melody(seed, secs=12.0, rate_hz=22_050):
    """Return tones of changing pitch and level, two per second."""
    rng = np.random.default_rng(seed)
    notes = round(2 * secs)
    hz = np.repeat(rng.choice([110, 147, 196, 262, 330, 440], notes), rate_hz // 2)
    level = np.repeat(rng.uniform(0.1, 0.8, notes), rate_hz // 2)
    return level * np.sin(2 * np.pi * np.cumsum(hz) / rate_hz) * 0.6


def encode_and_decode(waveform, rate_hz, kind, subtype):
    """Return a waveform after a round trip through an audio file, at `RATE_HZ`."""
    stream = io.BytesIO()
    resampled = librosa.resample(waveform, orig_sr=22_050, target_sr=rate_hz)
    soundfile.write(stream, resampled, rate_hz, format=kind, subtype=subtype)
    stream.seek(0)
    return librosa.load(stream, sr=RATE_HZ, mono=True)[0]


def candidate_pairs(fingerprints):
    points = np.stack([np.frombuffer(bytes.fromhex(digits), np.uint8) for digits in fingerprints])
    found = neighbors.find_in_cell(points, tree=0, depth=0)
    return sorted(
        {tuple(sorted(pair)) for pair in zip(found.first.tolist(), found.second.tolist(), strict=True)}
    )


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
def test_a_duplicate_in_another_format_is_found_and_confirmed(rate_hz, kind, subtype):
    original = encode_and_decode(melody(1), 22_050, "WAV", "PCM_16")
    duplicate = encode_and_decode(0.7 * melody(1), rate_hz, kind, subtype)
    others = [encode_and_decode(melody(seed), 22_050, "WAV", "PCM_16") for seed in (2, 3)]
    fingerprints = [fingerprint(audio) for audio in (original, duplicate, *others)]
    assert candidate_pairs(fingerprints) == [(0, 1)]
    assert is_same_recording(original, duplicate, RATE_HZ)


def test_different_recordings_with_similar_fingerprints_are_not_duplicates():
    rng = np.random.default_rng(0)
    noises = rng.normal(0, 0.1, (2, 36_000)).astype(np.float32)
    assert candidate_pairs([fingerprint(noise) for noise in noises]) == [(0, 1)]
    assert not is_same_recording(*noises, RATE_HZ)
    tones = [0.5 * np.sin(2 * np.pi * hz * np.arange(36_000) / RATE_HZ) for hz in (440, 442)]
    assert not is_same_recording(*tones, RATE_HZ)
    assert not is_same_recording(np.zeros(100), np.zeros(100), RATE_HZ)


def test_each_clip_is_paired_with_a_limited_number_of_similar_ones():
    rng = np.random.default_rng(0)
    noises = rng.normal(0, 0.1, (100, 36_000)).astype(np.float32)
    duplicate = 0.7 * noises[50] + rng.normal(0, 0.01, 36_000).astype(np.float32)  # with a codec's noise
    pairs = candidate_pairs([fingerprint(noise) for noise in (*noises, duplicate)])
    assert len(pairs) <= 16 * 101
    assert (50, 100) in pairs
    assert is_same_recording(noises[50], duplicate, RATE_HZ)


def test_a_short_delay_is_allowed_between_duplicates_and_a_long_one_is_not():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 36_000)
    for delay_samples, is_duplicate in ((300, True), (-300, True), (3_000, False)):
        assert is_same_recording(noise, np.roll(noise, delay_samples), RATE_HZ) == is_duplicate


def test_a_clip_of_any_length_has_a_fingerprint():
    for samples in (1, 31, 32, 1_000):
        assert len(fingerprint(np.full(samples, 0.1, np.float32))) == 128
    assert candidate_pairs([fingerprint(np.ones(9, np.float32))]) == []
