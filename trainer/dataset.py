"""Shards -> `tf.data`. The order of examples is a pure function of (seed, epoch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.manifest import Manifest
from trainer.config import Config
from trainer.models import ANY_GENRE, Condition

SHUFFLE_CLIPS = 512  # clips held while shuffling: 180 MB at the default format
SHUFFLE_CROPS = 4_096
PARSERS = 4
PREFETCH_BATCHES = 4
ALL_OPEN = 0.15  # part of the crops of which nothing is told, so that a model learns what music is at all
LOUDNESS = "loudness_db"


class Clip(NamedTuple):
    """An example of a split, whole."""

    audio: tf.Tensor  # [clip_samples] float32 in [-1, 1]
    condition: Condition  # of one clip: genre [] int32, attributes [attributes] float32, NaN: not measurable
    track_id: tf.Tensor  # [] string


Clips = tf.data.Dataset | Clip  # of a split: read when they are needed, or held in memory, stacked


class Batch(NamedTuple):
    """What a training step gets.

    `position` is the example's place in the global batch and `weight` its part of that batch's mean: they
    travel with the example, so that neither depends on how the batch is divided among replicas. A batch is
    always full: the last of an epoch is filled up with examples of weight 0, so that every replica has some.
    """

    audio: tf.Tensor  # [batch, samples] float32 in [-1, 1]
    condition: Condition  # genre as an index into the manifest's genres, attributes in standard deviations
    position: tf.Tensor  # [batch] int32
    weight: tf.Tensor  # [batch] float32, one over the number of real examples, or 0


def open_split(folder: Path, manifest: Manifest, split: str) -> tf.data.Dataset:
    """`Clip`s in the shards' order.

    Raises:
        CommandError: The split has no clips (exit code 3).
    """
    shards = manifest.split_shards(split)
    if not shards:
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


def fits(manifest: Manifest, splits: Sequence[str], cache_mb: int) -> bool:
    """Whether all clips of `splits` may be held in memory, decoded."""
    clips = sum(manifest.split_records(split) for split in splits)
    return clips * manifest.clip_samples * np.dtype(np.float32).itemsize <= cache_mb * 1_000_000


def hold(clips: tf.data.Dataset) -> Clip:
    """All clips in memory, stacked, so that no later epoch reads and parses them again."""
    with tf.device("CPU:0"):
        return tf.nest.map_structure(lambda *parts: tf.stack(parts), *clips)


def training_batches(clips: Clips, config: Config, manifest: Manifest, epoch: int) -> tf.data.Dataset:
    """`Batch`es of one epoch: crops of every clip at random places, a little louder or softer, shuffled.

    Some crops have parts of their condition left open, so that a model also learns to do without. Clips
    that are held give the same batches as those that are read, but only places are shuffled, and cut last.
    """
    held = clips if isinstance(clips, Clip) else None
    if held is not None:
        rows = tf.range(len(held.track_id))
        clips = tf.data.Dataset.from_tensor_slices(Clip(rows, held.condition, held.track_id))
    order, places, chances = _epoch_seeds(config.seed, epoch)
    names = sorted(manifest.attributes)
    louder = np.array([1 / manifest.attributes[name].std if name == LOUDNESS else 0.0 for name in names])
    crops_per_clip = config.crops_per_clip if config.crop_samples else 1
    length = min(config.crop_samples or manifest.clip_samples, manifest.clip_samples)

    def crop(index: tf.Tensor, clip: Clip) -> tf.data.Dataset:
        index = tf.cast(index, tf.int32)
        last = manifest.clip_samples - length + 1
        starts = tf.random.stateless_uniform([crops_per_clip], [places, index], 0, last, tf.int32)
        chance = tf.random.stateless_uniform([crops_per_clip, len(names) + 3], [chances, index])
        gain_db = config.gain_db * (2 * chance[:, :1] - 1)
        gain = 10 ** (gain_db / 20)
        if held is None:
            audio = tf.gather(clip.audio, starts[:, tf.newaxis] + tf.range(length)) * gain
        else:
            audio = (tf.repeat(clip.audio, crops_per_clip), starts, gain)
        left_open = chance[:, 2:] < config.condition_dropout
        if config.condition_dropout:
            left_open |= chance[:, 1:2] < ALL_OPEN
        attributes = clip.condition.attributes + gain_db * tf.constant(louder, tf.float32)
        condition = Condition(
            tf.where(left_open[:, 0], ANY_GENRE, clip.condition.genre),
            tf.where(left_open[:, 1:], math.nan, attributes),
        )
        return tf.data.Dataset.from_tensor_slices((audio, condition))

    def cut(place: tuple[tf.Tensor, ...], condition: Condition) -> tuple[tf.Tensor, Condition]:
        row, start, gain = place
        return held.audio[row, start : start + length] * gain, condition

    examples = clips.shuffle(SHUFFLE_CLIPS, seed=order).enumerate().flat_map(crop)
    if config.crop_samples:
        examples = examples.shuffle(SHUFFLE_CROPS, seed=order)
    if held is not None:
        examples = examples.map(cut)
    return _full_batches(examples, config.batch_size, length)


def count_steps(clips: int, config: Config) -> int:
    """Batches that `training_batches` gives in an epoch."""
    return -(-clips * (config.crops_per_clip if config.crop_samples else 1) // config.batch_size)


def evaluation_batches(clips: Clips, batch_size: int) -> tf.data.Dataset:
    """Whole clips in the shards' order, as `Batch`es."""
    if isinstance(clips, Clip):
        clips = tf.data.Dataset.from_tensor_slices(clips)
    examples = clips.map(lambda clip: (clip.audio, clip.condition))
    return _full_batches(examples, batch_size, examples.element_spec[0].shape[0])


def _full_batches(examples: tf.data.Dataset, batch_size: int, length: int) -> tf.data.Dataset:
    def fill(audio: tf.Tensor, condition: Condition) -> Batch:
        real = tf.shape(audio)[0]
        position = tf.range(batch_size)
        source = tf.minimum(position, real - 1)
        weight = tf.where(position < real, 1.0 / tf.cast(real, tf.float32), 0.0)
        condition = Condition(*(tf.gather(part, source) for part in condition))
        audio = tf.ensure_shape(tf.gather(audio, source), [batch_size, length])
        return Batch(audio, condition, position, weight)

    options = tf.data.Options()
    # Its loop backs off to sleeps of many seconds, and an iterator that ends waits for the sleep to end.
    options.autotune.enabled = False
    return examples.batch(batch_size).map(fill).prefetch(PREFETCH_BATCHES).with_options(options)


def _epoch_seeds(seed: int, epoch: int) -> list[int]:
    return tf.random.stateless_uniform([3], [seed, epoch], 0, 2**31 - 1, tf.int32).numpy().tolist()
