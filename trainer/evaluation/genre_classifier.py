"""A genre classifier of embeddings, trained on real clips, which measures whether generated clips have their genre."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

INVERSE_PENALTY = 0.1  # strong, since the patches of a clip are similar: few examples are independent
MAX_ITERATIONS = 2_000


class GenreClassifier:
    """Logistic regression on standardized patches; a clip's genre is that of its mean log-probabilities.

    Build one with `GenreClassifier.fit`, which is deterministic.
    """

    def __init__(self, patch_model: Pipeline) -> None:
        self._patch_model = patch_model

    @classmethod
    def fit(cls, embeddings: np.ndarray, genres: np.ndarray) -> GenreClassifier:
        """Fit a classifier to clips; rare genres get the same total weight as frequent ones.

        Args:
            embeddings: `[n, patches, dim]` float32.
            genres: `[n]` int.

        Raises:
            ValueError: All clips are of one genre.
        """
        regression = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=MAX_ITERATIONS)
        patch_model = make_pipeline(StandardScaler(), regression)
        patch_model.fit(_rows(embeddings), np.repeat(genres, embeddings.shape[1]))
        return cls(patch_model)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Predict genres, `[n, patches, dim]` -> `[n]` int, out of those given to `fit`."""
        patches = self._patch_model.predict_log_proba(_rows(embeddings))
        clips = patches.reshape(*embeddings.shape[:2], -1).mean(axis=1)
        return self._patch_model.classes_[clips.argmax(axis=1)]

    def accuracy(self, embeddings: np.ndarray, genres: np.ndarray) -> float:
        """Return the fraction of `[n, patches, dim]` clips whose predicted genre equals that in `genres`, `[n]`."""
        return float(np.mean(self.predict(embeddings) == np.asarray(genres)))


def _rows(embeddings: np.ndarray) -> np.ndarray:
    return embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float64)
