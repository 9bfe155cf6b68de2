"""Detect duplicate recordings: similar fingerprints select candidate pairs, cross-correlation confirms them.

A fingerprint describes how the energy of a recording's first clip is distributed over time, once for the
waveform and once for its first difference. It hardly depends on container, codec and sample rate, so duplicates
have similar fingerprints. Other clips can be similar by chance, and steady noises always are. The waveforms of
a candidate pair are therefore compared: those of duplicates correlate, up to the delay that a codec adds.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import fft

SLICES = 32
FINGERPRINT_BYTES = 2 * SLICES
MIN_LEVEL_DB = -40.0  # relative to the clip's mean; quieter slices differ by the noise of a codec
STEP_DB = 0.5
MAX_DIFFERENCE_DB = 0.75  # RMS difference between the fingerprints of a pair; lossy duplicates differ by 0.2
MIN_CORRELATION = 0.9  # of duplicates; a lossy one at 64 kbit/s reaches 0.98
MIN_EXCERPT_CORRELATION = 0.7  # of the loudest excerpt, which rules out most pairs in a tenth of the time
EXCERPT_SECS = 4.0
MAX_DELAY_SECS = 0.2  # MP3 adds 0.03 to 0.1 s, which some decoders do not remove


def fingerprint(audio: np.ndarray) -> str:
    """Return the fingerprint of a clip: 128 hexadecimal digits, two per slice and signal.

    Args:
        audio: `[samples]` float32 without padding, at least one sample.
    """
    audio = audio - audio.mean()  # an offset is no likeness
    difference = np.diff(audio, prepend=audio[:1])
    edges = np.linspace(0, len(audio), SLICES + 1).astype(int)
    levels_db, mean_powers = [], []
    for signal in (audio, difference):
        slices = [signal[start:end] for start, end in itertools.pairwise(edges)]
        energy = np.array([np.dot(part, part) for part in slices], np.float64)
        mean_power = energy.sum() / len(audio)
        level_db = 10 * np.log10((energy / np.maximum(1, np.diff(edges)) + 1e-20) / (mean_power + 1e-20))
        levels_db.append(np.clip(level_db, MIN_LEVEL_DB, -MIN_LEVEL_DB))
        mean_powers.append(mean_power)
    # The ratio of the two powers measures brightness, which levels relative to their own mean do not show.
    ratio_db = 10 * np.log10((mean_powers[1] + 1e-20) / (mean_powers[0] + 1e-20))
    levels_db[1] = np.clip(levels_db[1] + ratio_db, 2 * MIN_LEVEL_DB, -MIN_LEVEL_DB)
    values = np.concatenate(levels_db) - 2 * MIN_LEVEL_DB
    return np.clip(np.round(values / STEP_DB), 0, 255).astype(np.uint8).tobytes().hex()


def is_same_recording(first: np.ndarray, second: np.ndarray, sample_rate_hz: int) -> bool:
    """Return whether two waveforms are one recording, up to its level and a delay of `MAX_DELAY_SECS`.

    Args:
        first: `[samples]` at `sample_rate_hz`.
        second: Another waveform at that rate; its length may differ.
        sample_rate_hz: The sample rate.
    """
    first, second = first - first.mean(), second - second.mean()
    max_delay = round(MAX_DELAY_SECS * sample_rate_hz)
    excerpt = _loudest_excerpt(first[: len(second)], round(EXCERPT_SECS * sample_rate_hz))
    return (
        _max_correlation(first[excerpt], second[excerpt], max_delay) >= MIN_EXCERPT_CORRELATION
        and _max_correlation(first, second, max_delay) >= MIN_CORRELATION
    )


def _loudest_excerpt(audio: np.ndarray, samples: int) -> slice:
    starts = range(0, max(1, len(audio) - samples + 1), max(1, samples // 4))
    start = max(starts, key=lambda start: np.dot(*2 * [audio[start : start + samples]]))
    return slice(start, start + samples)


def _max_correlation(first: np.ndarray, second: np.ndarray, max_delay: int) -> float:
    """Return the largest normalized cross-correlation at delays up to `max_delay` samples; 0 for silence."""
    size = fft.next_fast_len(len(first) + len(second), real=True)
    spectra = [fft.rfft(audio.astype(np.float64), size) for audio in (first, second)]
    correlation = fft.irfft(spectra[0] * np.conj(spectra[1]), size)
    max_delay = min(max_delay, size // 2 - 1)
    within_delay = np.concatenate([correlation[: max_delay + 1], correlation[size - max_delay :]])
    energy = np.sqrt(np.sum(np.square(first, dtype=np.float64)) * np.sum(np.square(second, dtype=np.float64)))
    return float(within_delay.max() / energy) if energy > 0 else 0.0
