"""What is asked of clips, in names and units, as a model takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.errors import USAGE, CommandError
from trainer.run_config import DatasetMetadata

GOLDEN_RATIO = 0.6180339887498949  # whose multiples, modulo 1, fill the unit interval evenly (Weyl 1916)

TEMPO = "tempo_bpm"
DROPPED_GENRE = -1  # the genre of a clip that is not conditioned on one

Genre = str | Sequence[str | None] | None
Attributes = Mapping[str, float | Sequence[float] | None] | None


class Condition(NamedTuple):
    """What is asked of a clip. Each part can be left open; a model that is not conditional ignores it."""

    genre: tf.Tensor  # [batch] int32, an index into the dataset's genres, or ANY_GENRE
    attributes: tf.Tensor  # [batch, attributes] float32 in standard deviations from the mean, or NaN: open


class Guidance(NamedTuple):
    """How strongly a condition counts: 0 ignores it, 1 is as in training, more exaggerates."""

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
    """What is asked of `count` clips, as the model takes it.

    Raises:
        CommandError: Unknown names, or more or fewer values than clips (2).
    """
    if count < 1:
        raise CommandError(f"at least one clip, not {count}", USAGE)
    names = [genre] * count if genre is None or isinstance(genre, str) else list(genre)
    asked = {name: value for name, value in (attributes or {}).items() if value is not None}
    if not conditional and ({*names} - {None} or asked):
        raise CommandError("this run's model was not trained on genres: leave --genre out", USAGE)
    if len(names) != count:
        raise CommandError(f"{count} clips need as many genres, not {len(names)}", USAGE)
    for name in {*names} - {None}:
        if name not in metadata.genres:
            raise CommandError(f"this run knows the genres {', '.join(metadata.genres)}, not {name}", USAGE)
    columns = np.full([count, len(metadata.attributes)], np.nan, np.float32)
    for name, value in asked.items():
        if name not in metadata.attributes:
            known = ", ".join(metadata.attributes) or "none"
            raise CommandError(f"this run knows the attributes {known}, not {name}", USAGE)
        values = np.asarray(value, np.float32)
        if values.shape not in ((), (count,)):
            raise CommandError(f"{count} clips need one {name} or as many, not {values.size}", USAGE)
        of = metadata.attributes[name]
        columns[:, list(metadata.attributes).index(name)] = (values - of.mean) / of.std
    rows = [DROPPED_GENRE if name is None else metadata.genres.index(name) for name in names]
    return Condition(np.array(rows, np.int32), columns)


def empirical_conditions(metadata: DatasetMetadata, count: int, start: float) -> Condition:
    """Those of training clips, spread evenly: a clip's depends on its own number and on `start` in [0, 1).

    The tempo stays open: a clip that is told one keeps a clear beat, and much music does not.
    """
    usual = metadata.empirical_conditions
    drawn = [usual[int((start + number * GOLDEN_RATIO) % 1 * len(usual))] for number in range(count)]
    columns = [
        [math.nan if name == TEMPO or row[name] is None else (row[name] - of.mean) / of.std for row in drawn]
        for name, of in metadata.attributes.items()
    ]
    genres = [metadata.genres.index(row["genre"]) for row in drawn]
    attributes = np.array(columns, np.float32).reshape(len(columns), count).T
    return Condition(np.array(genres, np.int32), attributes)
