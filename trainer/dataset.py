"""Shards -> `tf.data`. The order of examples is a pure function of (seed, epoch)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.manifest import Manifest
from trainer.config import Config

ANY_GENRE = -1  # a genre that is left open

SHUFFLE_CLIPS = 512  # clips held while shuffling: 180 MB at the default format
SHUFFLE_CROPS = 4_096
PARSERS = 4
PREFETCH_BATCHES = 4


class Batch(NamedTuple):
    """What a training step gets.

    `position` is the example's place in the global batch and `weight` its part of that batch's mean: they
    travel with the example, so that neither depends on how the batch is divided among replicas. A batch is
    always full: the last of an epoch is filled up with examples of weight 0, so that every replica has some.
    """

    audio: tf.Tensor  # [batch, samples] float32 in [-1, 1]
    genre: tf.Tensor  # [batch] int32, index into the manifest's genres, or ANY_GENRE
    position: tf.Tensor  # [batch] int32
    weight: tf.Tensor  # [batch] float32, one over the number of real examples, or 0


def open_split(folder: Path, manifest: Manifest, split: str) -> tf.data.Dataset:
    """`(audio [clip_samples] float32, genre [] int32, track_id [] string)` in the shards' order.

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

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        example = tf.io.parse_single_example(serialized, features)
        return example["audio"], genres.lookup(example["genre"]), example["track_id"]

    paths = [str(folder / shard.name) for shard in shards]
    return tf.data.TFRecordDataset(paths, buffer_size=8 << 20).map(parse, num_parallel_calls=PARSERS)


def training_batches(clips: tf.data.Dataset, config: Config, epoch: int) -> tf.data.Dataset:
    """`Batch`es of one epoch: every clip cut into consecutive crops at a random phase, shuffled.

    Some crops have their genre left open, so that the model also learns to do without.
    """
    order, phases, openings = _epoch_seeds(config.seed, epoch)
    examples = clips.shuffle(SHUFFLE_CLIPS, seed=order).enumerate()

    def crop(index: tf.Tensor, clip: tuple[tf.Tensor, ...]) -> tf.data.Dataset:
        audio, genre, _ = clip
        samples = audio.shape[0]
        crops, length = _crops(samples, config.crop_samples)
        index = tf.cast(index, tf.int32)
        phase = tf.random.stateless_uniform([], [phases, index], 0, samples - crops * length + 1, tf.int32)
        cut = tf.reshape(audio[phase : phase + crops * length], [crops, length])
        left_open = tf.random.stateless_uniform([crops], [openings, index]) < config.genre_dropout
        return tf.data.Dataset.from_tensor_slices((cut, tf.where(left_open, ANY_GENRE, genre)))

    examples = examples.flat_map(lambda index, clip: crop(index, clip))
    if config.crop_samples:
        examples = examples.shuffle(SHUFFLE_CROPS, seed=order)
    return _full_batches(examples, config.batch_size)


def count_steps(clips: int, config: Config, clip_samples: int) -> int:
    """Batches that `training_batches` gives in an epoch."""
    crops, _ = _crops(clip_samples, config.crop_samples)
    return -(-clips * crops // config.batch_size)


def _crops(clip_samples: int, crop_samples: int) -> tuple[int, int]:
    """How many crops a clip is cut into, and their length."""
    length = min(crop_samples or clip_samples, clip_samples)
    return clip_samples // length, length


def evaluation_batches(clips: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Whole clips in the shards' order, as `Batch`es."""
    return _full_batches(clips.map(lambda audio, genre, _: (audio, genre)), batch_size)


def _full_batches(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    def fill(audio: tf.Tensor, genre: tf.Tensor) -> Batch:
        real = tf.shape(audio)[0]
        position = tf.range(batch_size)
        source = tf.minimum(position, real - 1)
        weight = tf.where(position < real, 1.0 / tf.cast(real, tf.float32), 0.0)
        return Batch(tf.gather(audio, source), tf.gather(genre, source), position, weight)

    options = tf.data.Options()
    # Its loop backs off to sleeps of many seconds, and an iterator that ends waits for the sleep to end.
    options.autotune.enabled = False
    return examples.batch(batch_size).map(fill).prefetch(PREFETCH_BATCHES).with_options(options)


def _epoch_seeds(seed: int, epoch: int) -> list[int]:
    return tf.random.stateless_uniform([3], [seed, epoch], 0, 2**31 - 1, tf.int32).numpy().tolist()
