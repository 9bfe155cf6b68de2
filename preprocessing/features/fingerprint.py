"""The same recording twice: found by fingerprints, proved by correlation.

A fingerprint is how the energy of a recording's first clip is spread over time, in all and in its faster
changes. Containers, codecs and sample rates leave it nearly as it is, so copies are neighbours; but so are
other clips by chance, and two noises for certain. So the waveforms of neighbours are compared: of copies they
correlate, up to the delay that a codec adds; of all else they do not.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import fft, spatial

SLICES = 32
QUIETEST_DB = -40.0  # below the clip's mean, slices differ by a codec's noise
STEP_DB = 0.5
NEIGHBOUR_DB = (
    0.75  # RMS difference of fingerprints up to which clips are compared; lossy copies differ by 0.2
)
NEAREST = 16  # a clip is compared with no more; where all sound alike, as noises do, all are neighbours
SAME = 0.9  # correlation from which they are one recording; a lossy copy at 64 kbit/s keeps 0.98
LIKELY = 0.7  # of the loudest part alone, which tells most others apart in a tenth of the time
LIKELY_SECS = 4.0
MAX_DELAY_SECS = 0.2  # MP3 delays by 0.03 to 0.1 s where a player does not make up for it


def fingerprint(audio: np.ndarray) -> str:
    """`[samples]` float32 without padding -> 128 hexadecimal digits, a byte for each slice of both kinds."""
    changes = np.diff(audio, prepend=audio[:1])
    edges = np.linspace(0, len(audio), SLICES + 1).astype(int)
    parts, means = [], []
    for signal in (audio, changes):
        slices = [signal[start:end] for start, end in itertools.pairwise(edges)]
        energy = np.array([np.dot(part, part) for part in slices], np.float64)
        means.append(energy.sum() / len(audio))
        level_db = 10 * np.log10((energy / np.maximum(1, np.diff(edges)) + 1e-20) / (means[-1] + 1e-20))
        parts.append(np.clip(level_db, QUIETEST_DB, -QUIETEST_DB))
    # The faster changes in relation to all: brightness, which no slice of its own kind shows.
    ratio_db = 10 * np.log10((means[1] + 1e-20) / (means[0] + 1e-20))
    parts[1] = np.clip(parts[1] + ratio_db, 2 * QUIETEST_DB, -QUIETEST_DB)
    values = np.concatenate(parts) - 2 * QUIETEST_DB
    return np.clip(np.round(values / STEP_DB), 0, 255).astype(np.uint8).tobytes().hex()


def neighbours(fingerprints: list[str]) -> list[tuple[int, int]]:
    """The pairs of places whose fingerprints could be of one recording: of each, with the nearest few."""
    if len(fingerprints) < 2:
        return []
    points = np.stack([np.frombuffer(bytes.fromhex(one), np.uint8) for one in fingerprints]) * STEP_DB
    radius = NEIGHBOUR_DB * np.sqrt(points.shape[1])
    count = min(NEAREST + 1, len(points))  # itself is one of them
    _, found = spatial.cKDTree(points).query(points, count, distance_upper_bound=radius)
    pairs = ((one, int(other)) for one, others in enumerate(found) for other in others)
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1] < len(points)})


def are_the_same(first: np.ndarray, second: np.ndarray, sample_rate_hz: int) -> bool:
    """Whether two `[samples]` waveforms at one rate are one recording, up to level and a short delay."""
    reach = round(MAX_DELAY_SECS * sample_rate_hz)
    part = _loudest(first[: len(second)], round(LIKELY_SECS * sample_rate_hz))
    return (
        _correlation(first[part], second[part], reach) >= LIKELY
        and _correlation(first, second, reach) >= SAME
    )


def _loudest(audio: np.ndarray, samples: int) -> slice:
    starts = range(0, max(1, len(audio) - samples + 1), max(1, samples // 4))
    start = max(starts, key=lambda start: np.dot(*2 * [audio[start : start + samples]]))
    return slice(start, start + samples)


def _correlation(first: np.ndarray, second: np.ndarray, reach: int) -> float:
    """The largest of all delays up to `reach` samples, 1 for the same; 0 where there is silence."""
    size = fft.next_fast_len(len(first) + len(second), real=True)
    spectra = [fft.rfft(audio.astype(np.float64), size) for audio in (first, second)]
    correlation = fft.irfft(spectra[0] * np.conj(spectra[1]), size)
    reach = min(reach, size // 2 - 1)
    near = np.concatenate([correlation[: reach + 1], correlation[size - reach :]])
    energy = np.sqrt(np.sum(np.square(first, dtype=np.float64)) * np.sum(np.square(second, dtype=np.float64)))
    return float(near.max() / energy) if energy > 0 else 0.0
