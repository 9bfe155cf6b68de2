"""Metrics of sets of clips and of sets of embeddings.

Sets of clips are `[clips, samples]` float32 in [-1, 1]; sets of embeddings are `[n, dim]`, one row each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.spatial.distance
import scipy.stats

from preprocessing.dataset.keys import is_related
from preprocessing.features.attributes import onset_envelope

ACTIVE_VARIANCE = 0.01  # of a posterior mean over clips
FLOOR_SPLITS = 20  # random halves whose distances are averaged
MIN_PAIRS = 3  # of a rank correlation: that of two pairs is always 1 or -1


def frechet_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Compute the Fréchet distance between Gaussians fitted to two sets of embeddings; 0 for the same set.

    Dowson & Landau 1982; Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6. It
    is a squared distance and biased upwards for few rows: compare only sets of the same size.

    Args:
        real: `[n, dim]` embeddings.
        other: `[m, dim]` embeddings.

    Raises:
        ValueError: A set has fewer than two rows, so no covariance.
    """
    real, other = np.asarray(real, np.float64), np.asarray(other, np.float64)
    if min(len(real), len(other)) < 2:
        raise ValueError(f"a covariance needs two rows or more, not {len(real)} and {len(other)}")
    covariance, other_covariance = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (real, other))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # C1 C2 has the eigenvalues of this symmetric product, which stay real where rows are fewer than dims.
    products = np.linalg.eigvalsh(root @ other_covariance @ root)
    shift = np.sum((real.mean(axis=0) - other.mean(axis=0)) ** 2)
    shared = np.sum(np.sqrt(np.maximum(products, 0)))
    return max(float(shift + np.trace(covariance) + np.trace(other_covariance) - 2 * shared), 0.0)


def nearest_distances(clips: np.ndarray, others: np.ndarray, leave_out_self: bool = False) -> np.ndarray:
    """Compute the Euclidean distance of each row to the nearest of `others`: `[n, dim]`, `[m, dim]` -> `[n]` float64.

    With `leave_out_self`, row i of `others` is row i of `clips` and is ignored; the distance of a lone row is infinite.

    Raises:
        ValueError: `others` is empty, or not of the shape of `clips` though rows are to be left out.
    """
    distances = scipy.spatial.distance.cdist(clips, others)
    if leave_out_self:
        if len(clips) != len(others):
            raise ValueError(f"{len(clips)} rows cannot be left out of {len(others)} others")
        np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)


def diversity(embeddings: np.ndarray) -> float:
    """Compute the mean Euclidean distance between different rows of `[n, dim]`; NaN for fewer than two."""
    if len(embeddings) < 2:
        return math.nan
    return float(scipy.spatial.distance.pdist(embeddings).mean())


def active_units(means: np.ndarray) -> int:
    """Count the latent dimensions that depend on the clip, from `[clips, dim]` posterior means.

    Burda et al. 2016, "Importance weighted autoencoders", section 5.1: those whose posterior mean has a
    variance over clips above 0.01, under a prior of variance 1.
    """
    return int(np.sum(np.var(means, axis=0, dtype=np.float64) > ACTIVE_VARIANCE))


def spread_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Compute the Wasserstein-1 distance between the distributions of a statistic, in standard deviations of `real`.

    Source: Villani 2009, "Optimal transport", chapter 6. Values that are NaN could not be measured and are ignored.

    Args:
        real: `[n]`.
        other: `[m]`.

    Returns:
        The distance: 0 for the same values; NaN where `real` has fewer than two different values; infinite
        where `other` has none.
    """
    real, other = (values[np.isfinite(values)] for values in (np.asarray(real), np.asarray(other)))
    if len(real) < 2 or np.ptp(real) == 0:
        return math.nan
    if not len(other):
        return math.inf
    return float(scipy.stats.wasserstein_distance(real, other) / np.std(real))


def spread_distance_floor(real: np.ndarray, seed: int) -> float:
    """Compute the mean `spread_distance` between random halves of `[n]` real values, in their common spread.

    No model can be expected to come closer than real music to itself.
    """
    rng, real = np.random.default_rng(seed), real[np.isfinite(real)]
    if len(real) < 2 or np.ptp(real) == 0:
        return math.nan
    halves = (np.array_split(rng.permutation(real), 2) for _ in range(FLOOR_SPLITS))
    return float(np.mean([scipy.stats.wasserstein_distance(*pair) for pair in halves]) / np.std(real))


def rank_correlation(conditions: np.ndarray, measured: np.ndarray) -> float:
    """Compute Spearman's rank correlation of `[n]` and `[n]`, in [-1, 1].

    Pairs with a NaN are ignored. The result is NaN for fewer than three pairs, or where one side is constant.
    """
    pairs = np.stack([conditions, measured]).astype(np.float64)
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    if pairs.shape[1] < MIN_PAIRS or np.any(np.ptp(pairs, axis=1) == 0):
        return math.nan
    return float(scipy.stats.spearmanr(*pairs).statistic)


def onset_correlation(audio: np.ndarray, other: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Compute the Pearson correlation of the onset envelopes of each pair of clips.

    Args:
        audio: `[clips, samples]` float32 in [-1, 1].
        other: The same shape.
        sample_rate_hz: The rate of both.

    Returns:
        `[clips]` float64 in [-1, 1]; 0 where an envelope is constant, as that of silence is.
    """
    envelopes = ([onset_envelope(clip, sample_rate_hz) for clip in clips] for clips in (audio, other))
    return np.array([_correlation(*pair) for pair in zip(*envelopes, strict=True)])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def key_agreement(asked: Sequence[str], heard: Sequence[str]) -> dict[str, float]:
    """Return the shares of clips that have the key they are conditioned on, and by chance would have it.

    Related keys are those of MIREX's evaluation (`preprocessing.dataset.keys.is_related`). Chance pairs each asked key
    with each heard one.

    Args:
        asked: The key of each clip's condition.
        heard: The key of each clip as measured; empty where it is not clear, which agrees with nothing.
    """
    exact = np.array([[key == other for other in heard] for key in asked])
    related = np.array([[bool(other) and is_related(key, other) for other in heard] for key in asked])
    shares: dict[str, float] = {}
    for name, agrees in (("key_exact", exact), ("key_exact_or_related", exact | related)):
        shares[name] = float(np.mean(np.diag(agrees)))
        shares[f"{name}_by_chance"] = float(np.mean(agrees))
    return shares
