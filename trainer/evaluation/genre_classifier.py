"""A small genre classifier of embeddings, trained on real clips to judge what was asked of made ones."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

INVERSE_PENALTY = 0.1  # strong: patches of one clip are alike, so there are fewer examples than rows
MOST_ITERATIONS = 2_000


class GenreClassifier:
    """Logistic regression on standardized patches; a clip's genre is that of its mean log-probabilities.

    `GenreClassifier.fit` makes one. The same clips give the same classifier.
    """

    def __init__(self, patch_model: Pipeline) -> None:
        self._patch_model = patch_model

    @classmethod
    def fit(cls, embeddings: np.ndarray, genres: np.ndarray) -> GenreClassifier:
        """Fits to clips, with rare genres weighted up to the frequent ones.

        Args:
            embeddings: `[n, patches, dim]` float32.
            genres: `[n]` int.

        Raises:
            ValueError: All clips are of one genre.
        """
        regression = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=MOST_ITERATIONS)
        patch_model = make_pipeline(StandardScaler(), regression)
        patch_model.fit(_rows(embeddings), np.repeat(genres, embeddings.shape[1]))
        return cls(patch_model)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """`[n, patches, dim]` -> `[n]` int, each one of the genres of `fit`."""
        patches = self._patch_model.predict_log_proba(_rows(embeddings))
        clips = patches.reshape(*embeddings.shape[:2], -1).mean(axis=1)
        return self._patch_model.classes_[clips.argmax(axis=1)]

    def accuracy(self, embeddings: np.ndarray, genres: np.ndarray) -> float:
        """The part of `[n, patches, dim]` clips in [0, 1] whose predicted genre is that of `[n]` genres."""
        return float(np.mean(self.predict(embeddings) == np.asarray(genres)))


def _rows(embeddings: np.ndarray) -> np.ndarray:
    return embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float64)
