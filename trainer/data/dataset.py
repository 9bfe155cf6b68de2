"""The clips of a split: read from its files at each use, or cached in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.keys import KEYS
from preprocessing.dataset.manifest import Manifest, Shard
from preprocessing.errors import DataError, UsageError
from trainer.conditioning import DROPPED_GENRE, DROPPED_KEY, Condition

PARSE_THREADS = 4


class Clip(NamedTuple):
    """A whole clip of a split."""

    audio: tf.Tensor  # [clip_samples] float32 in [-1, 1]
    condition: Condition  # of one clip: genre and key [] int32, attributes [attributes] float32, NaN if not measurable
    track_id: tf.Tensor  # [] string


Clips = tf.data.Dataset | Clip  # of a split or input shard: read at each use, or stacked in memory


def files_of_worker(manifest: Manifest, numbers: range, input_shards: int) -> list[Shard]:
    """List the files that a worker reads: those of its input shards of the training split, and the other splits.

    Args:
        manifest: Of the dataset.
        numbers: The worker's input shards.
        input_shards: Number of input shards of all workers.
    """
    training = manifest.split_shards("train")
    own = [file for number in numbers for file in training[number::input_shards]]
    return own + manifest.split_shards("validation") + manifest.split_shards("test")


def open_split(
    folder: Path, manifest: Manifest, split: str, number: int = 0, input_shards: int = 1
) -> tf.data.Dataset:
    """Open the clips of a split, or of one of N input shards, which is every Nth file, in the order of the files.

    Args:
        folder: A local folder with the files.
        manifest: Of the dataset.
        split: Name of the split.
        number: Of the input shard, from 0.
        input_shards: N.

    Returns:
        A dataset of `Clip`.

    Raises:
        CommandError: The split has no clips (exit code 3), or fewer files than input shards (2).
    """
    files = manifest.split_shards(split)[number::input_shards]
    if not files:
        if input_shards > 1:
            raise UsageError(
                f"{folder} has too few files in its split {split} for {input_shards} input shards: preprocess with "
                f"`shards` {8 * input_shards}, or train with fewer `input_shards`",
            )
        raise DataError(
            f"{folder} has no clips in its split {split}: preprocess more clips or choose another `split`",
        )
    genres, keys = _index_table(manifest.genres, DROPPED_GENRE), _index_table(KEYS, DROPPED_KEY)
    features = {
        "audio": tf.io.FixedLenFeature([manifest.clip_samples], tf.float32),
        "genre": tf.io.FixedLenFeature([], tf.string),
        "key": tf.io.FixedLenFeature([], tf.string),
        "track_id": tf.io.FixedLenFeature([], tf.string),
    }
    statistics = dict(sorted(manifest.attributes.items()))
    features |= {name: tf.io.FixedLenFeature([], tf.float32) for name in statistics}

    def parse(serialized: tf.Tensor) -> Clip:
        example = tf.io.parse_single_example(serialized, features)
        attributes = [(example[name] - moments.mean) / moments.std for name, moments in statistics.items()]
        attributes = tf.stack(attributes) if attributes else tf.zeros([0])
        condition = Condition(genres.lookup(example["genre"]), attributes, keys.lookup(example["key"]))
        return Clip(example["audio"], condition, example["track_id"])

    paths = [str(folder / file.name) for file in files]
    return tf.data.TFRecordDataset(paths, buffer_size=8 << 20).map(parse, num_parallel_calls=PARSE_THREADS)


def _index_table(names: Sequence[str], default: int) -> tf.lookup.StaticHashTable:
    """Map each name to its index, and others to `default`."""
    initializer = tf.lookup.KeyValueTensorInitializer([*names], tf.range(len(names)))
    return tf.lookup.StaticHashTable(initializer, default_value=default)


def fits_in_memory(manifest: Manifest, splits: Sequence[str], cache_mb: int) -> bool:
    """Tell whether the decoded clips of `splits` take at most `cache_mb` megabytes."""
    clips = sum(manifest.clip_count(split) for split in splits)
    return clips * manifest.clip_samples * np.dtype(np.float32).itemsize <= cache_mb * 1_000_000


def cache_in_memory(clips: tf.data.Dataset) -> Clip:
    """Read all clips and stack them in memory, so that no epoch reads and parses them again."""
    with tf.device("CPU:0"):
        return tf.nest.map_structure(lambda *parts: tf.stack(parts), *clips)
