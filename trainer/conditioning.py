"""Conditions: genre and attributes of clips, from names and units to the tensors that models take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import UsageError
from trainer.config import GUIDANCE, MAX_ATTRIBUTE_GUIDANCE, UNCONDITIONAL_GUIDANCE
from trainer.run_config import DatasetMetadata

GOLDEN_RATIO = 0.6180339887498949  # its multiples, modulo 1, cover the unit interval evenly (Weyl 1916)

# Training clips that what is left open of a condition is drawn from: the nearest in the specified attributes.
NEAREST_FRACTION, MIN_NEAREST = 0.25, 3
FAR_STD = 10.0  # in place of the distance from an attribute that could not be measured

TEMPO, LOUDNESS = "tempo_bpm", "loudness_db"
DROPPED_GENRE = -1  # in place of a genre's index: not conditioned on the genre

Genre = str | Sequence[str | None] | None  # one for all clips, or one for each; None: not specified
Attributes = (
    Mapping[str, float | Sequence[float] | None] | None
)  # name -> one value for all clips, or for each


class Condition(NamedTuple):
    """What a batch of clips is conditioned on; the model is unconditional in the parts that are dropped."""

    genre: tf.Tensor  # [batch] int32, an index into the dataset's genres, or DROPPED_GENRE
    attributes: tf.Tensor  # [batch, attributes] float32, standard deviations from the mean; NaN: dropped


class Guidance(NamedTuple):
    """Scales of classifier-free guidance: 0 ignores the condition, 1 is as in training, more exaggerates."""

    genre: float = 1.0
    attributes: float = 1.0


NO_GUIDANCE = Guidance()


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
        raise UsageError("this run's model was not trained on genres: omit `genre`")
    return Condition(_genre_indices(metadata, count, names), _attribute_columns(metadata, count, specified))


def complete_condition(metadata: DatasetMetadata, specified: Condition, start: float) -> Condition:
    """Fill in what a condition leaves open, with what training clips have.

    The clips are those of the genre, if it is specified, that are nearest in the specified attributes. All that is left
    open of a condition comes from one of them, so that it goes together. It depends on the clip's index and on `start`
    in [0, 1), not on the number of clips.
    """
    everything = empirical_rows(metadata)
    genres, attributes = (np.array(values) for values in specified)
    for index in range(len(genres)):
        rows = np.flatnonzero((everything.genre == genres[index]) | (genres[index] == DROPPED_GENRE))
        rows = rows if len(rows) else np.arange(len(everything.genre))
        known = ~np.isnan(attributes[index])
        distances = np.nan_to_num(
            everything.attributes[rows][:, known] - attributes[index, known], nan=FAR_STD
        )
        nearest = rows[np.argsort(np.square(distances).sum(axis=1), kind="stable")]
        if known.any():
            nearest = nearest[: max(MIN_NEAREST, math.ceil(len(nearest) * NEAREST_FRACTION))]
        row = nearest[int((start + index * GOLDEN_RATIO) % 1 * len(nearest))]
        genres[index] = everything.genre[row] if genres[index] == DROPPED_GENRE else genres[index]
        attributes[index] = np.where(known, attributes[index], everything.attributes[row])
    return Condition(genres, attributes)


def empirical_rows(metadata: DatasetMetadata) -> Condition:
    """Return the conditions of the training clips that the run's configuration lists."""
    columns = [
        [_standardize(row[name], statistics) for row in metadata.empirical_conditions]
        for name, statistics in metadata.attributes.items()
    ]
    genres = [metadata.genres.index(str(row["genre"])) for row in metadata.empirical_conditions]
    attributes = np.array(columns, np.float32).reshape(len(columns), len(genres)).T
    return Condition(np.array(genres, np.int32), attributes)


def guidance_of(specified: Condition, guidance: float | None) -> Guidance:
    """Return the scales for what is specified of a condition; the rest is as in training.

    None means `GUIDANCE`, and `UNCONDITIONAL_GUIDANCE` of a genre that is not specified. Attributes are guided by
    `MAX_ATTRIBUTE_GUIDANCE` at most.
    """
    has_genre = bool(np.any(np.asarray(specified.genre) != DROPPED_GENRE))
    has_attributes = not np.isnan(specified.attributes).all()
    default = GUIDANCE if has_genre else UNCONDITIONAL_GUIDANCE
    of_attributes = min(GUIDANCE if guidance is None else guidance, MAX_ATTRIBUTE_GUIDANCE)
    return Guidance(default if guidance is None else guidance, of_attributes if has_attributes else 1.0)


def loudness_of(metadata: DatasetMetadata, condition: Condition) -> np.ndarray:
    """Return the loudness in a condition, `[count]` in dBFS; NaN where it has none."""
    if LOUDNESS not in metadata.attributes:
        return np.full(len(condition.genre), np.nan)
    statistics = metadata.attributes[LOUDNESS]
    column = np.asarray(condition.attributes)[:, list(metadata.attributes).index(LOUDNESS)]
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
