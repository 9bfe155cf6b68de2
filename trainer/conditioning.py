"""Conditions: genre and attributes of clips, from names and units to the tensors that models take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import UsageError
from trainer.config import GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, UNCONDITIONAL_GUIDANCE
from trainer.run_config import DatasetMetadata

# Training clips that what is left open of a condition is drawn from: the nearest in the specified attributes.
NEAREST_FRACTION, MIN_NEAREST = 0.25, 3
FAR_STD = 10.0  # in place of the distance from an attribute that could not be measured

TEMPO, LOUDNESS, BRIGHTNESS = "tempo_bpm", "loudness_db", "centroid_hz"
DROPPED_GENRE = -1  # in place of a genre's index: not conditioned on the genre

Genre = str | Sequence[str | None] | None  # one for all clips, or one for each; None: not specified
Attributes = (
    Mapping[str, float | Sequence[float] | None] | None
)  # name -> one value for all clips, or for each


Scale: TypeAlias = float | tf.Tensor  # one for all clips, or `[batch]` float32: one for each


class Condition(NamedTuple):
    """What a batch of clips is conditioned on; the model is unconditional in the parts that are dropped."""

    genre: tf.Tensor  # [batch] int32, an index into the dataset's genres, or DROPPED_GENRE
    attributes: tf.Tensor  # [batch, attributes] float32, standard deviations from the mean; NaN: dropped


class Guidance(NamedTuple):
    """Scales of classifier-free guidance: 0 ignores the condition, 1 is as in training, more exaggerates."""

    genre: Scale = 1.0
    attributes: Scale = 1.0


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
) -> Condition:
    """Make the condition of `count` clips.

    Args:
        metadata: The genres and attributes that the run was trained on.
        conditional: Whether the model takes conditions at all.
        count: Number of clips.
        genre: One name, or one per clip; None: dropped.
        attributes: Values in the attributes' units; an attribute that is missing or None is dropped.

    Raises:
        CommandError: A name is unknown, the number of values differs from `count`, or the model is not
            conditional (exit code 2).
    """
    if count < 1:
        raise UsageError(f"the number of clips must be at least 1, not {count}")
    names = [genre] * count if genre is None or isinstance(genre, str) else list(genre)
    specified = {name: value for name, value in (attributes or {}).items() if value is not None}
    if not conditional and ({*names} - {None} or specified):
        raise UsageError("this run's model was not trained on genres and attributes: omit them")
    return Condition(_genre_indices(metadata, count, names), _attribute_columns(metadata, count, specified))


def complete_condition(metadata: DatasetMetadata, specified: Condition, quantiles: tf.Tensor) -> Condition:
    """Fill in what a condition leaves open, with what training clips have.

    The clips are those of the genre, if it is specified, that are nearest in the specified attributes. All that is left
    open of a condition comes from one of them, so that it goes together: from the one at the clip's quantile, in the
    order of their distance.

    Args:
        metadata: The genres, attributes and training clips.
        specified: Of each clip.
        quantiles: `[batch]` float64 in [0, 1).
    """
    rows = Condition(*(tf.constant(values) for values in empirical_rows(metadata)))
    genre, attributes = (tf.convert_to_tensor(values) for values in specified)
    allowed = (rows.genre == genre[:, tf.newaxis]) | (genre[:, tf.newaxis] == DROPPED_GENRE)  # [batch, rows]
    allowed |= tf.logical_not(tf.reduce_any(allowed, axis=1, keepdims=True))
    known = tf.logical_not(tf.math.is_nan(attributes))  # [batch, attributes]
    differences = rows.attributes - attributes[:, tf.newaxis]  # [batch, rows, attributes]
    differences = tf.where(tf.math.is_nan(differences), FAR_STD, differences)
    squares = tf.where(known[:, tf.newaxis], tf.square(differences), 0.0)
    distances = tf.where(allowed, tf.reduce_sum(squares, axis=2), math.inf)
    nearest = tf.argsort(distances, axis=1, stable=True)
    count = tf.reduce_sum(tf.cast(allowed, tf.float64), axis=1)
    few = tf.minimum(count, tf.maximum(tf.math.ceil(count * NEAREST_FRACTION), float(MIN_NEAREST)))
    count = tf.where(tf.reduce_any(known, axis=1), few, count)
    row = tf.gather(nearest, tf.cast(quantiles * count, tf.int32), batch_dims=1)
    return Condition(
        tf.where(genre == DROPPED_GENRE, tf.gather(rows.genre, row), genre),
        tf.where(known, attributes, tf.gather(rows.attributes, row)),
    )


def empirical_rows(metadata: DatasetMetadata) -> Condition:
    """Return the conditions of the training clips that the run's configuration lists."""
    columns = [
        [_standardize(row[name], statistics) for row in metadata.empirical_conditions]
        for name, statistics in metadata.attributes.items()
    ]
    genres = [metadata.genres.index(str(row["genre"])) for row in metadata.empirical_conditions]
    attributes = np.array(columns, np.float32).reshape(len(columns), len(genres)).T
    return Condition(np.array(genres, np.int32), attributes)


def guidance_of(specified: Condition, guidance: Scale | None) -> Guidance:
    """Return the scales, `[batch]` each, for what is specified of each clip; the rest is as in training.

    None or NaN means `GUIDANCE`, and `UNCONDITIONAL_GUIDANCE` of a genre that is not specified. Attributes are guided
    by `MAX_ATTRIBUTE_GUIDANCE` at most.
    """
    genre, attributes = (tf.convert_to_tensor(values) for values in specified)
    given = tf.broadcast_to(tf.cast(math.nan if guidance is None else guidance, tf.float32), tf.shape(genre))
    default = tf.where(genre == DROPPED_GENRE, UNCONDITIONAL_GUIDANCE, GUIDANCE)
    has_attributes = tf.reduce_any(tf.logical_not(tf.math.is_nan(attributes)), axis=1)
    of_attributes = tf.minimum(tf.where(tf.math.is_nan(given), GUIDANCE, given), MAX_ATTRIBUTE_GUIDANCE)
    return Guidance(
        tf.where(tf.math.is_nan(given), default, given), tf.where(has_attributes, of_attributes, 1.0)
    )


def attribute_of(metadata: DatasetMetadata, condition: Condition, name: str) -> tf.Tensor:
    """Return an attribute in a condition, `[batch]` float32 in its unit; NaN where it has none."""
    if name not in metadata.attributes:
        return tf.fill(tf.shape(condition.genre), math.nan)
    statistics = metadata.attributes[name]
    column = tf.convert_to_tensor(condition.attributes)[:, list(metadata.attributes).index(name)]
    return column * statistics.std + statistics.mean


def check_attributes(metadata: DatasetMetadata, attributes: Attributes) -> None:
    """Raise if attributes to generate with are outside of what the run was trained on (exit code 2)."""
    for name, value in (attributes or {}).items():
        statistics = metadata.attributes.get(name)
        if statistics is None or value is None:
            continue  # an unknown name is refused where the condition is made
        for number in np.atleast_1d(value):
            if not statistics.low <= number <= statistics.high:
                raise UsageError(
                    f"{name} {number:g} is outside of what this run was trained on, {statistics.low:.4g} to "
                    f"{statistics.high:.4g}",
                )


def _genre_indices(metadata: DatasetMetadata, count: int, names: list[str | None]) -> np.ndarray:
    """`[count]` int32."""
    if len(names) != count:
        raise UsageError(f"{count} clips need {count} genres, not {len(names)}")
    for name in names:
        if name is not None and name not in metadata.genres:
            raise UsageError(f"unknown genre {name}: this run has {', '.join(metadata.genres)}")
    indices = [DROPPED_GENRE if name is None else metadata.genres.index(name) for name in names]
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
