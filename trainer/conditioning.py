"""Conditions: genre and attributes of clips, from names and units to the tensors that models take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Statistics
from preprocessing.errors import USAGE, CommandError
from trainer.run_config import DatasetMetadata

GOLDEN_RATIO = 0.6180339887498949  # its multiples, modulo 1, cover the unit interval evenly (Weyl 1916)

TEMPO = "tempo_bpm"
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
        raise CommandError(f"the number of clips must be at least 1, not {count}", USAGE)
    names = [genre] * count if genre is None or isinstance(genre, str) else list(genre)
    specified = {name: value for name, value in (attributes or {}).items() if value is not None}
    if not conditional and ({*names} - {None} or specified):
        raise CommandError("this run's model was not trained on genres: omit --genre", USAGE)
    return Condition(_genre_indices(metadata, count, names), _attribute_columns(metadata, count, specified))


def empirical_conditions(metadata: DatasetMetadata, count: int, start: float) -> Condition:
    """Make `count` conditions that are spread evenly over those of the training clips.

    Genre and attributes of a clip are drawn together, as they occur in music. They depend on the clip's index
    and on `start` in [0, 1), not on `count`.
    """
    rows = metadata.empirical_conditions
    chosen = [rows[int((start + index * GOLDEN_RATIO) % 1 * len(rows))] for index in range(count)]
    columns = [
        [_standardize(row[name], statistics) for row in chosen]
        for name, statistics in metadata.attributes.items()
    ]
    genres = [metadata.genres.index(str(row["genre"])) for row in chosen]
    attributes = np.array(columns, np.float32).reshape(len(columns), count).T
    return Condition(np.array(genres, np.int32), attributes)


def _genre_indices(metadata: DatasetMetadata, count: int, names: list[str | None]) -> np.ndarray:
    """`[count]` int32."""
    if len(names) != count:
        raise CommandError(f"{count} clips need {count} genres, not {len(names)}", USAGE)
    for name in names:
        if name is not None and name not in metadata.genres:
            raise CommandError(f"unknown genre {name}: this run has {', '.join(metadata.genres)}", USAGE)
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
            raise CommandError(f"unknown attribute {name}: this run has {known}", USAGE)
        values = np.asarray(value, np.float32)
        if values.shape not in ((), (count,)):
            raise CommandError(f"{count} clips need one value of {name} or {count}, not {values.size}", USAGE)
        statistics = metadata.attributes[name]
        columns[:, list(metadata.attributes).index(name)] = (values - statistics.mean) / statistics.std
    return columns


def _standardize(value: str | float | None, statistics: Statistics) -> float:
    """Standard deviations from the mean; NaN for a value that is missing."""
    return math.nan if value is None else (float(value) - statistics.mean) / statistics.std
