"""Conditions: genre, attributes and key of clips, from names and units to the tensors that models take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from preprocessing.dataset.keys import KEYS, parse_key
from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import UsageError
from preprocessing.features.key import templates
from trainer.config import GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, UNCONDITIONAL_GUIDANCE
from trainer.run_config import DatasetMetadata

# Training clips that what is left open of a condition is drawn from: the nearest in the specified attributes.
NEAREST_FRACTION, MIN_NEAREST = 0.25, 3
RANGE_STEPS = 10_000  # per unit, in messages
FAR_STD = 10.0  # in place of the distance from an attribute that could not be measured

TEMPO, LOUDNESS, BRIGHTNESS, BEAT_CLARITY = "tempo_bpm", "loudness_db", "centroid_hz", "beat_clarity"
CLEAR_BEAT = 1.0  # beat clarity where only the tempo is specified
DROPPED_GENRE = -1  # in place of a genre's index: not conditioned on the genre
DROPPED_KEY = -1  # in place of an index into `KEYS`

Genre = str | Sequence[str | None] | None  # one for all clips, or one for each; None: not specified
Attributes = (
    Mapping[str, float | Sequence[float] | None] | None
)  # name -> one value for all clips, or for each
Key = (
    str | Sequence[str | None] | None
)  # such as "A minor": one for all clips, or one for each; None: not specified

Scale: TypeAlias = float | tf.Tensor  # one for all clips, or `[batch]` float32: one for each


class Condition(NamedTuple):
    """What a batch of clips is conditioned on; the model is unconditional in the parts that are dropped."""

    genre: tf.Tensor  # [batch] int32, an index into the dataset's genres, or DROPPED_GENRE
    attributes: tf.Tensor  # [batch, attributes] float32, standard deviations from the mean; NaN: dropped
    key: tf.Tensor  # [batch] int32, an index into `KEYS`, or DROPPED_KEY


class Guidance(NamedTuple):
    """Scales of classifier-free guidance: 0 ignores the condition, 1 is as in training, more exaggerates."""

    genre: Scale = 1.0
    attributes: Scale = 1.0
    key: Scale = 1.0


NO_GUIDANCE = Guidance()


def as_column(scale: Scale) -> tf.Tensor:
    """`[batch, 1]` float32, or `[1, 1]` if the scale is one for all clips."""
    return tf.reshape(tf.cast(scale, tf.float32), [-1, 1])


def make_condition(
    metadata: DatasetMetadata,
    conditional: bool,
    count: int,
    genre: Genre = None,
    attributes: Attributes = None,
    key: Key = None,
) -> Condition:
    """Make the condition of `count` clips.

    Args:
        metadata: The genres and attributes that the run was trained on.
        conditional: Whether the model takes conditions at all.
        count: Number of clips.
        genre: One name, or one per clip; None: dropped.
        attributes: Values in the attributes' units; an attribute that is missing or None is dropped.
        key: One name, in any spelling that `parse_key` knows, or one per clip; None: dropped.

    Raises:
        CommandError: A name is unknown, the number of values differs from `count`, or the model is not
            conditional (exit code 2).
    """
    if count < 1:
        raise UsageError(f"the number of clips must be at least 1, not {count}")
    names, keys = (
        [name] * count if name is None or isinstance(name, str) else list(name) for name in (genre, key)
    )
    specified = {name: value for name, value in (attributes or {}).items() if value is not None}
    if not conditional and ({*names, *keys} - {None} or specified):
        raise UsageError("this run's model was not trained on genres, attributes and keys: omit them")
    return Condition(
        _genre_indices(metadata, count, names),
        _attribute_columns(metadata, count, specified),
        _key_indices(count, keys),
    )


def complete_condition(metadata: DatasetMetadata, specified: Condition, quantiles: tf.Tensor) -> Condition:
    """Fill in what a condition leaves open, with what training clips have.

    The clips are those of the genre, if it is specified, that are nearest in the specified attributes and key. All
    that is left open of a condition comes from one of them, so that it goes together: from the one at the clip's
    quantile, in the order of their distance. Only the beat of a specified tempo is clear, so that it is heard.

    Args:
        metadata: The genres, attributes, keys and training clips.
        specified: Of each clip.
        quantiles: `[batch]` float64 in [0, 1).
    """
    rows = Condition(*(tf.constant(values) for values in empirical_rows(metadata)))
    genre, attributes, key = (tf.convert_to_tensor(values) for values in specified)
    attributes = _with_clear_beat(metadata, attributes)
    allowed = (rows.genre == genre[:, tf.newaxis]) | (genre[:, tf.newaxis] == DROPPED_GENRE)  # [batch, rows]
    allowed |= tf.logical_not(tf.reduce_any(allowed, axis=1, keepdims=True))
    known = tf.logical_not(tf.math.is_nan(attributes))  # [batch, attributes]
    differences = rows.attributes - attributes[:, tf.newaxis]  # [batch, rows, attributes]
    differences = tf.where(tf.math.is_nan(differences), FAR_STD, differences)
    squares = tf.where(known[:, tf.newaxis], tf.square(differences), 0.0)
    distances = tf.reduce_sum(squares, axis=2) + _squared_key_distance(rows.key, key)
    distances = tf.where(allowed, distances, math.inf)
    nearest = tf.argsort(distances, axis=1, stable=True)
    count = tf.reduce_sum(tf.cast(allowed, tf.float64), axis=1)
    few = tf.minimum(count, tf.maximum(tf.math.ceil(count * NEAREST_FRACTION), float(MIN_NEAREST)))
    count = tf.where(tf.reduce_any(known, axis=1) | (key != DROPPED_KEY), few, count)
    row = tf.gather(nearest, tf.cast(quantiles * count, tf.int32), batch_dims=1)
    return Condition(
        tf.where(genre == DROPPED_GENRE, tf.gather(rows.genre, row), genre),
        tf.where(known, attributes, tf.gather(rows.attributes, row)),
        tf.where(key == DROPPED_KEY, tf.gather(rows.key, row), key),
    )


def empirical_rows(metadata: DatasetMetadata) -> Condition:
    """Return the conditions of the training clips that the run's configuration lists."""
    columns = [
        [_standardize(row[name], statistics) for row in metadata.empirical_conditions]
        for name, statistics in metadata.attributes.items()
    ]
    genres = [metadata.genres.index(str(row["genre"])) for row in metadata.empirical_conditions]
    attributes = np.array(columns, np.float32).reshape(len(columns), len(genres)).T
    keys = [row["key"] for row in metadata.empirical_conditions]
    key_indices = [DROPPED_KEY if key is None else KEYS.index(str(key)) for key in keys]
    return Condition(np.array(genres, np.int32), attributes, np.array(key_indices, np.int32))


def guidance_of(specified: Condition, guidance: Scale | None) -> Guidance:
    """Return the scales, `[batch]` each, for what is specified of each clip; the rest is as in training.

    None or NaN means `GUIDANCE`, and `UNCONDITIONAL_GUIDANCE` of a genre that is not specified. Attributes and key are
    guided by `MAX_ATTRIBUTE_GUIDANCE` at most.
    """
    genre, attributes, key = (tf.convert_to_tensor(values) for values in specified)
    given = tf.broadcast_to(tf.cast(math.nan if guidance is None else guidance, tf.float32), tf.shape(genre))
    default = tf.where(genre == DROPPED_GENRE, UNCONDITIONAL_GUIDANCE, GUIDANCE)
    has_attributes = tf.reduce_any(tf.logical_not(tf.math.is_nan(attributes)), axis=1)
    of_attributes = tf.minimum(tf.where(tf.math.is_nan(given), GUIDANCE, given), MAX_ATTRIBUTE_GUIDANCE)
    return Guidance(
        tf.where(tf.math.is_nan(given), default, given),
        tf.where(has_attributes, of_attributes, 1.0),
        tf.where(key != DROPPED_KEY, of_attributes, 1.0),
    )


def attribute_of(metadata: DatasetMetadata, condition: Condition, name: str) -> tf.Tensor:
    """Return an attribute in a condition, `[batch]` float32 in its unit; NaN where it has none."""
    if name not in metadata.attributes:
        return tf.fill(tf.shape(condition.genre), math.nan)
    statistics = metadata.attributes[name]
    column = tf.convert_to_tensor(condition.attributes)[:, list(metadata.attributes).index(name)]
    return column * statistics.std + statistics.mean


def range_of(statistics: Statistics) -> str:
    """Return the range of an attribute for a message, rounded inwards: both ends are accepted."""
    low, high = math.ceil(statistics.low * RANGE_STEPS), math.floor(statistics.high * RANGE_STEPS)
    return f"{low / RANGE_STEPS:.12g} to {high / RANGE_STEPS:.12g}"


def check_supported(metadata: DatasetMetadata, attributes: Attributes, key: Key) -> None:
    """Raise if attributes or keys to generate with are outside of what the run was trained on (exit code 2)."""
    for name, value in (attributes or {}).items():
        statistics = metadata.attributes.get(name)
        if statistics is None or value is None:
            continue  # an unknown name is refused where the condition is made
        for number in np.atleast_1d(value):
            if not statistics.low <= number <= statistics.high:
                raise UsageError(
                    f"`{name}` {number:g} is outside of what this run was trained on, {range_of(statistics)}",
                )
    for asked in [key] if key is None or isinstance(key, str) else key:
        if asked is not None and parse_key(asked) not in metadata.keys:
            known = ", ".join(metadata.keys) or "not clear"
            raise UsageError(
                f"no clip that this run was trained on has the key {asked}: their keys are {known}"
            )


def _with_clear_beat(metadata: DatasetMetadata, attributes: tf.Tensor) -> tf.Tensor:
    """Set the clarity of the beat where the tempo is specified and the clarity is not."""
    names = list(metadata.attributes)
    if TEMPO not in names or BEAT_CLARITY not in names:
        return attributes
    statistics, is_clarity = metadata.attributes[BEAT_CLARITY], tf.constant(names) == BEAT_CLARITY
    has_tempo = tf.logical_not(tf.math.is_nan(attributes[:, names.index(TEMPO)]))
    is_open = tf.math.is_nan(attributes) & is_clarity & has_tempo[:, tf.newaxis]
    return tf.where(is_open, _standardize(CLEAR_BEAT, statistics), attributes)


def _squared_key_distance(rows: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Squared distances of the profiles of keys, `[batch, rows]`: as those of attributes, 2 on average.

    They are 0 where `key`, `[batch]`, is dropped, and `FAR_STD` squared from `rows`, `[rows]`, without a key.
    """
    correlations = tf.constant(templates() @ templates().T, tf.float32)
    pairs = tf.gather(tf.gather(correlations, tf.maximum(key, 0)), tf.maximum(rows, 0), axis=1)
    squares = tf.where(rows == DROPPED_KEY, FAR_STD**2, 2.0 - 2.0 * pairs)
    return tf.where(key[:, tf.newaxis] == DROPPED_KEY, 0.0, squares)


def _genre_indices(metadata: DatasetMetadata, count: int, names: list[str | None]) -> np.ndarray:
    """`[count]` int32."""
    if len(names) != count:
        raise UsageError(f"{count} clips need {count} genres, not {len(names)}")
    for name in names:
        if name is not None and name not in metadata.genres:
            raise UsageError(f"unknown genre {name}: this run has {', '.join(metadata.genres)}")
    indices = [DROPPED_GENRE if name is None else metadata.genres.index(name) for name in names]
    return np.array(indices, np.int32)


def _key_indices(count: int, names: list[str | None]) -> np.ndarray:
    """`[count]` int32."""
    if len(names) != count:
        raise UsageError(f"{count} clips need {count} keys, not {len(names)}")
    indices = [DROPPED_KEY if name is None else KEYS.index(parse_key(name)) for name in names]
    return np.array(indices, np.int32)


def _attribute_columns(
    metadata: DatasetMetadata, count: int, attributes: Mapping[str, float | Sequence[float]]
) -> np.ndarray:
    """`[count, attributes]` float32; NaN: dropped."""
    columns = np.full([count, len(metadata.attributes)], np.nan, np.float32)
    for name, value in attributes.items():
        if name not in metadata.attributes:
            known = ", ".join(metadata.attributes) or "none"
            raise UsageError(f"unknown attribute {name}: this run has {known}")
        values = np.asarray(value, np.float32)
        if values.shape not in ((), (count,)):
            raise UsageError(f"{count} clips need one value of {name} or {count}, not {values.size}")
        statistics = metadata.attributes[name]
        columns[:, list(metadata.attributes).index(name)] = (values - statistics.mean) / statistics.std
    return columns


def _standardize(value: str | float | None, statistics: Statistics) -> float:
    """Standard deviations from the mean; NaN for a value that is missing."""
    return math.nan if value is None else (float(value) - statistics.mean) / statistics.std
