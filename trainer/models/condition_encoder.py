"""Condition embedding of the hierarchical model: genre, attributes and key as one vector per clip."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

from preprocessing.dataset.keys import KEYS
from preprocessing.features.key import templates
from trainer.conditioning import (
    DROPPED_GENRE,
    DROPPED_KEY,
    NO_GUIDANCE,
    Condition,
    Guidance,
    as_column,
)

CONDITION_DIM = 64
GENRE_DIM = 32


class ConditionEncoder(layers.Layer):
    """Genre, attributes and key -> `[batch, CONDITION_DIM]`; a dropped part has a learned embedding of its own.

    A key is given by its profile, how well each pitch class fits. So keys that share most of their tones are near each
    other, and what is learned of one serves others.
    """

    def __init__(self, genres: int) -> None:
        super().__init__()
        self.genres = genres
        # The last row stands for a dropped genre.
        self.genre_embedding = layers.Embedding(genres + 1, GENRE_DIM)
        self._key_features = tf.constant(_key_features())
        self.output_layer = layers.Dense(CONDITION_DIM, activation="tanh")

    def call(self, condition: Condition, guidance: Guidance = NO_GUIDANCE) -> tf.Tensor:
        """Embed a condition, with classifier-free guidance (Ho & Salimans 2022, equation 6).

        The guided embedding is `u + attributes * (a - u) + key * (k - a) + genre * (c - k)`: u is the unconditional
        embedding, a that of the attributes alone, k that of attributes and key, and c that of the whole condition.
        """
        whole = self._embed(condition)
        if guidance is NO_GUIDANCE:
            return whole
        without_genre = condition._replace(genre=tf.fill(tf.shape(condition.genre), DROPPED_GENRE))
        without_key = without_genre._replace(key=tf.fill(tf.shape(condition.key), DROPPED_KEY))
        dropped = without_key._replace(attributes=tf.fill(tf.shape(condition.attributes), math.nan))
        key, attributes, unconditional = (self._embed(part) for part in (without_genre, without_key, dropped))
        return (
            unconditional
            + as_column(guidance.attributes) * (attributes - unconditional)
            + as_column(guidance.key) * (key - attributes)
            + as_column(guidance.genre) * (whole - key)
        )

    def _embed(self, condition: Condition) -> tf.Tensor:
        known = tf.logical_not(tf.math.is_nan(condition.attributes))
        values = tf.where(known, condition.attributes, 0.0)
        # DROPPED_GENRE, -1, selects the last row.
        genre = self.genre_embedding(tf.math.floormod(condition.genre, self.genres + 1))
        key = tf.gather(self._key_features, tf.math.floormod(condition.key, len(KEYS) + 1))
        return self.output_layer(tf.concat([genre, values, tf.cast(known, tf.float32), key], axis=-1))


def _key_features() -> np.ndarray:
    """Return `[keys + 1, pitch classes + 1]` float32: the profile of each of `KEYS` and 1; 0 for a dropped key."""
    profiles = templates() * np.sqrt(templates().shape[1])  # with a standard deviation of 1
    known = np.concatenate([profiles, np.ones([len(KEYS), 1])], axis=1)
    return np.concatenate([known, np.zeros_like(known[:1])]).astype(np.float32)
