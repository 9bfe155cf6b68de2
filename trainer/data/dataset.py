"""The clips of a split, read from its files as they become available."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.keys import KEYS
from preprocessing.dataset.manifest import Manifest, Shard
from preprocessing.errors import DataError, UsageError
from trainer.conditioning import DROPPED_GENRE, DROPPED_KEY, Condition
from trainer.data.read_ahead import ReadAhead
from trainer.data.reader import Reader
from trainer.data.schedule import Stream

PARSE_THREADS = 4


class Clip(NamedTuple):
    """A whole clip of a split."""

    audio: tf.Tensor  # [clip_samples] float32 in [-1, 1]
    condition: Condition  # of one clip: genre and key [] int32, attributes [attributes] float32, NaN if not measurable
    track_id: tf.Tensor  # [] string


def files_of_input_shard(
    manifest: Manifest, split: str, number: int = 0, input_shards: int = 1
) -> list[Shard]:
    """List the files of a split, or of one of N input shards, which is every Nth file, in the order of reading.

    Args:
        manifest: Of the dataset.
        split: Name of the split.
        number: Of the input shard, from 0.
        input_shards: N.

    Raises:
        CommandError: The split has no clips (exit code 3), or fewer files than input shards (2).
    """
    files = manifest.split_shards(split)[number::input_shards]
    if not files and input_shards > 1:
        raise UsageError(
            f"`data` has too few files in its split {split} for {input_shards} input shards: preprocess with "
            f"`shards` {8 * input_shards}, or train with fewer `input_shards`",
        )
    if not files:
        raise DataError(
            f"`data` has no clips in its split {split}: preprocess more clips or choose another `split`"
        )
    return files


def open_stream(
    source: ReadAhead, stream: Stream, manifest: Manifest, skipped: Collection[int] = ()
) -> tf.data.Dataset:
    """Open the clips of a stream, in the order of its files; each file is opened when the previous one is read.

    Args:
        source: Hands out the files.
        stream: Of `source`; only one iterator may use it at a time.
        manifest: Of the dataset.
        skipped: Indices of files that are not opened: their clips are silent.

    Returns:
        A dataset of `Clip`. Read it with `Reader`, which reports the errors of `source`.
    """
    parse = _parser(manifest)

    def open_file(index: np.ndarray) -> np.ndarray:
        path = None if int(index) in skipped else source.open(stream, int(index))
        return np.array([] if path is None else [str(path)], np.bytes_)

    def records_of(index: tf.Tensor) -> tf.data.Dataset:
        paths = tf.numpy_function(open_file, [index], tf.string)
        return tf.data.TFRecordDataset(tf.ensure_shape(paths, [None]), buffer_size=8 << 20)

    files = tf.data.Dataset.range(len(stream.shards) + 1)
    if not skipped:
        return files.flat_map(records_of).map(parse, num_parallel_calls=PARSE_THREADS)
    counts = [shard.records if index in skipped else 0 for index, shard in enumerate(stream.shards)]
    silent_clips = tf.constant([*counts, 0], tf.int64)
    condition = Condition(tf.constant(0), tf.zeros([len(manifest.attributes)]), tf.constant(0))
    silence = tf.data.Dataset.from_tensors(
        Clip(tf.zeros([manifest.clip_samples]), condition, tf.constant(""))
    )

    def clips_of(index: tf.Tensor) -> tf.data.Dataset:
        clips = records_of(index).map(parse, num_parallel_calls=PARSE_THREADS)
        return clips.concatenate(silence.repeat(silent_clips[index]))

    return files.flat_map(clips_of)


def open_split(
    source: ReadAhead, manifest: Manifest, split: str, number: int = 0, input_shards: int = 1
) -> tf.data.Dataset:
    """Open the clips of a split, or of one of N input shards, once; see `files_of_input_shard` and `open_stream`."""
    files = files_of_input_shard(manifest, split, number, input_shards)
    return open_stream(source, source.add_stream(files), manifest)


def _parser(manifest: Manifest) -> Callable[[tf.Tensor], Clip]:
    """Return a function that parses a record."""
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

    return parse


def _index_table(names: Sequence[str], default: int) -> tf.lookup.StaticHashTable:
    """Map each name to its index, and others to `default`."""
    initializer = tf.lookup.KeyValueTensorInitializer([*names], tf.range(len(names)))
    return tf.lookup.StaticHashTable(initializer, default_value=default)


def read_clips(source: ReadAhead, clips: tf.data.Dataset) -> Iterator[Clip]:
    """Yield clips as numpy arrays; raises as `Reader`."""
    with Reader(source, [lambda: clips]) as reader:
        for clip in reader:
            yield tf.nest.map_structure(lambda tensor: tensor.numpy(), clip)
