"""A split's clips: read from its shards, or held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest, Shard
from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer.conditioning import Condition

PARSERS = 4


class Clip(NamedTuple):
    """An example of a split, whole."""

    audio: tf.Tensor  # [clip_samples] float32 in [-1, 1]
    condition: Condition  # of one clip: genre [] int32, attributes [attributes] float32, NaN: not measurable
    track_id: tf.Tensor  # [] string


Clips = tf.data.Dataset | Clip  # of a split: read when they are needed, or held in memory, stacked


def shards_of(manifest: Manifest, numbers: range, input_shards: int) -> list[Shard]:
    """What a worker reads whose streams are `numbers`: its training shards, and all of the test split."""
    training = manifest.split_shards("train")
    own = [shard for number in numbers for shard in training[number::input_shards]]
    return own + manifest.split_shards("test")


def open_split(
    folder: Path, manifest: Manifest, split: str, stream: int = 0, input_shards: int = 1
) -> tf.data.Dataset:
    """Open the clips of a split in the order of its shards; of N input shards, those of every Nth file.

    Raises:
        CommandError: The split has no clips (exit code 3), or fewer shards than streams (2).
    """
    shards = manifest.split_shards(split)[stream::input_shards]
    if not shards:
        if input_shards > 1:
            raise CommandError(
                f"{folder} has too few shards in its split {split} for {input_shards} input shards: preprocess with "
                f"--shards {8 * input_shards}, or train with fewer --input-shards",
                USAGE,
            )
        raise CommandError(
            f"{folder} has no clips in its split {split}: preprocess more clips or choose another --split",
            BAD_DATA,
        )
    genres = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(manifest.genres, tf.range(len(manifest.genres))), default_value=-1
    )
    features = {
        "audio": tf.io.FixedLenFeature([manifest.clip_samples], tf.float32),
        "genre": tf.io.FixedLenFeature([], tf.string),
        "track_id": tf.io.FixedLenFeature([], tf.string),
    }
    statistics = dict(sorted(manifest.attributes.items()))
    features |= {name: tf.io.FixedLenFeature([], tf.float32) for name in statistics}

    def parse(serialized: tf.Tensor) -> Clip:
        example = tf.io.parse_single_example(serialized, features)
        attributes = [(example[name] - of.mean) / of.std for name, of in statistics.items()]
        attributes = tf.stack(attributes) if attributes else tf.zeros([0])
        condition = Condition(genres.lookup(example["genre"]), attributes)
        return Clip(example["audio"], condition, example["track_id"])

    paths = [str(folder / shard.name) for shard in shards]
    return tf.data.TFRecordDataset(paths, buffer_size=8 << 20).map(parse, num_parallel_calls=PARSERS)


def fits_in_memory(manifest: Manifest, splits: Sequence[str], cache_mb: int) -> bool:
    """Whether all clips of `splits` may be held in memory, decoded."""
    clips = sum(manifest.clip_count(split) for split in splits)
    return clips * manifest.clip_samples * np.dtype(np.float32).itemsize <= cache_mb * 1_000_000


def cache_in_memory(clips: tf.data.Dataset) -> Clip:
    """All clips in memory, stacked, so that no later epoch reads and parses them again."""
    with tf.device("CPU:0"):
        return tf.nest.map_structure(lambda *parts: tf.stack(parts), *clips)
