"""Condition embedding of the hierarchical model: genre and attributes as one vector per clip."""

from __future__ import annotations

import math

import tensorflow as tf
from tensorflow.keras import layers

from trainer.conditioning import DROPPED_GENRE, NO_GUIDANCE, Condition, Guidance, as_column

CONDITION_DIM = 64
GENRE_DIM = 32


class ConditionEncoder(layers.Layer):
    """Genre and attributes -> `[batch, CONDITION_DIM]`; a dropped part has a learned embedding of its own."""

    def __init__(self, genres: int) -> None:
        super().__init__()
        self.genres = genres
        # The last row stands for a dropped genre.
        self.genre_embedding = layers.Embedding(genres + 1, GENRE_DIM)
        self.output_layer = layers.Dense(CONDITION_DIM, activation="tanh")

    def call(self, condition: Condition, guidance: Guidance = NO_GUIDANCE) -> tf.Tensor:
        """Embed a condition, with classifier-free guidance (Ho & Salimans 2022, equation 6).

        The guided embedding is `u + attributes * (a - u) + genre * (c - a)`: u is the unconditional
        embedding, a that of the attributes alone and c that of the whole condition.
        """
        whole = self._embed(condition)
        if guidance is NO_GUIDANCE:
            return whole
        without_genre = condition._replace(genre=tf.fill(tf.shape(condition.genre), DROPPED_GENRE))
        dropped = without_genre._replace(attributes=tf.fill(tf.shape(condition.attributes), math.nan))
        attributes, unconditional = self._embed(without_genre), self._embed(dropped)
        return (
            unconditional
            + as_column(guidance.attributes) * (attributes - unconditional)
            + as_column(guidance.genre) * (whole - attributes)
        )

    def _embed(self, condition: Condition) -> tf.Tensor:
        known = tf.logical_not(tf.math.is_nan(condition.attributes))
        values = tf.where(known, condition.attributes, 0.0)
        # DROPPED_GENRE, -1, selects the last row.
        genre = self.genre_embedding(tf.math.floormod(condition.genre, self.genres + 1))
        return self.output_layer(tf.concat([genre, values, tf.cast(known, tf.float32)], axis=-1))
