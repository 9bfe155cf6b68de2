"""Baselines: a linear codec with the same latent rate, and signals that share only statistics with music."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class WindowedPCA(NamedTuple):
    """The optimal linear autoencoder of windows without overlap (Karhunen-Loève transform).

    Build one with `WindowedPCA.fit`. It keeps one value per `samples_per_value` samples, as a latent would.
    """

    mean: np.ndarray  # [window_samples] float64
    components: np.ndarray  # [kept, window_samples] float64, orthonormal rows
    variances: np.ndarray  # [window_samples] float64, of all components, largest first

    @classmethod
    def fit(
        cls, clips: Iterable[np.ndarray], samples_per_value: int, window_samples: int = 1024
    ) -> WindowedPCA:
        """Fit to training clips, one at a time.

        Args:
            clips: `[samples]` float32 each.
            samples_per_value: Compression, from 1 to `window_samples`.
            window_samples: Length of a window; the last one of a clip is padded with zeros.

        Raises:
            ValueError: The compression is out of range, or there are no clips.
        """
        if not 1 <= samples_per_value <= window_samples:
            raise ValueError(f"samples_per_value is {samples_per_value}, not in [1, {window_samples}]")
        window_count, total = 0, np.zeros(window_samples)
        products = np.zeros((window_samples, window_samples))
        for clip in clips:
            windows = _windows(clip, window_samples)
            window_count += len(windows)
            total += windows.sum(axis=0)
            products += windows.T @ windows
        if window_count == 0:
            raise ValueError("there are no clips to fit to")
        mean = total / window_count
        variances, vectors = np.linalg.eigh(products / window_count - np.outer(mean, mean))
        kept = window_samples // samples_per_value
        return cls(mean, vectors.T[::-1][:kept].copy(), np.maximum(variances[::-1], 0))

    def reconstruct(self, clips: np.ndarray) -> np.ndarray:
        """Encode and decode `[clips, samples]`; returns the same shape in float32."""
        return np.stack([self._reconstruct_one(clip) for clip in clips])

    def _reconstruct_one(self, clip: np.ndarray) -> np.ndarray:
        windows = _windows(clip, len(self.mean)) - self.mean
        decoded = windows @ self.components.T @ self.components + self.mean
        return decoded.reshape(-1)[: len(clip)].astype(np.float32)


def _windows(clip: np.ndarray, window_samples: int) -> np.ndarray:
    """Divide `[samples]` into `[windows, window_samples]` float64, padded with zeros at the end."""
    padded = np.pad(np.asarray(clip, np.float64), (0, -len(clip) % window_samples))
    return padded.reshape(-1, window_samples)


def shaped_noise(clips: Iterable[np.ndarray], count: int, samples: int, seed: int) -> np.ndarray:
    """Generate Gaussian noise with the mean power spectrum of clips: the average timbre without any music.

    Args:
        clips: `[samples]` float32 each; only the first `samples` are used.
        count: Number of clips to generate.
        samples: Length of each.
        seed: The same seed gives the same noise.

    Returns:
        `[count, samples]` float32, as loud as the clips; its peaks may exceed 1.

    Raises:
        ValueError: There are no clips.
    """
    powers, clip_count = np.zeros(samples // 2 + 1), 0
    for clip in clips:
        powers += np.abs(np.fft.rfft(clip, samples)) ** 2 / min(len(clip), samples)
        clip_count += 1
    if clip_count == 0:
        raise ValueError("there are no clips to take the spectrum from")
    gains = np.sqrt(powers / clip_count)
    rng = np.random.default_rng(seed)
    noise = (np.fft.irfft(gains * np.fft.rfft(rng.standard_normal(samples)), samples) for _ in range(count))
    return np.stack([*noise]).astype(np.float32)


def phase_randomized(clips: np.ndarray, seed: int) -> np.ndarray:
    """Randomize the phases of each clip's whole spectrum, which keeps the timbre and removes events in time.

    Theiler et al. 1992, "Testing for nonlinearity in time series: the method of surrogate data". The
    components at 0 Hz and at half the sample rate have no phase and are kept.

    Args:
        clips: `[clips, samples]` float32.
        seed: The same seed gives the same phases.

    Returns:
        The same shape in float32, each clip as loud as before; its peaks may exceed 1.
    """
    rng = np.random.default_rng(seed)
    return np.stack([_with_random_phases(clip, rng) for clip in clips])


def _with_random_phases(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    samples = len(clip)
    spectrum = np.fft.rfft(clip)
    with_phase = slice(1, (samples + 1) // 2)
    phases = rng.uniform(0, 2 * np.pi, len(spectrum[with_phase]))
    spectrum[with_phase] = np.abs(spectrum[with_phase]) * np.exp(1j * phases)
    return np.fft.irfft(spectrum, samples).astype(np.float32)
