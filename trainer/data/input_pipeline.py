"""Clips -> `tf.data` of batches. The order of examples is a pure function of (seed, epoch, streams)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from trainer.conditioning import DROPPED_GENRE, Condition
from trainer.config import Config
from trainer.data.dataset import Clip, Clips

SHUFFLE_CLIPS = 512  # clips held while shuffling: 180 MB at the default format
SHUFFLE_CROPS = 4_096
PREFETCH_BATCHES = 4
ALL_OPEN = 0.15  # part of the crops of which nothing is told, so that a model learns what music is at all
LOUDNESS = "loudness_db"


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


def training_batches(
    input_shards: Sequence[Clips], config: Config, manifest: Manifest, epochs: Sequence[int], first: int = 0
) -> tf.data.Dataset:
    """`Batch`es of some epochs, one after the other; of a worker that has only some streams, their rows.

    Every stream gives as many rows as every other, until its clips are used up. The epochs are one dataset,
    since to begin one takes longer than a step.

    Args:
        streams: Clips of each of the streams, of which `first` is the number of the first.
        config: Says how many streams there are in all.
        manifest: Of the dataset.
        epochs: Whose order it is, from 1.
        first: See `input_shards`.
    """
    numbers = range(first, first + len(input_shards))
    seeds = [[_epoch_seeds(config.seed, epoch, number) for number in numbers] for epoch in epochs]

    def of_epoch(seeds: tf.Tensor) -> tf.data.Dataset:
        tf.random.set_seed(1)  # of this graph alone, lest the program's own has a part in the order
        return _epoch(input_shards, config, manifest, seeds, first)

    return _ahead(tf.data.Dataset.from_tensor_slices(tf.constant(seeds, tf.int64)).flat_map(of_epoch))


def _epoch(
    input_shards: Sequence[Clips], config: Config, manifest: Manifest, seeds: tf.Tensor, first: int
) -> tf.data.Dataset:
    """`Batch`es of one epoch, of which `seeds` are the `[streams, 3]`."""
    size = config.batch_size // config.input_shards
    counts = _stream_examples(manifest, config)
    parts = []
    for number, clips in enumerate(input_shards):
        examples = _examples(clips, config, manifest, seeds[number])
        part = _full_batches(examples, size, _crop_length(config, manifest))
        lacking = count_steps(manifest, config) - -(-counts[first + number] // size)
        parts.append(part.concatenate(_nothing(part).repeat(lacking)) if lacking else part)
    position = size * first + tf.range(size * len(input_shards))

    def join(step: tf.Tensor, *parts: tuple[tf.Tensor, Condition, tf.Tensor]) -> Batch:
        audio, condition, real = zip(*parts, strict=True)
        everywhere = tf.reduce_sum(tf.clip_by_value(counts - tf.cast(step, tf.int32) * size, 0, size))
        is_real = tf.concat([tf.range(size) < count for count in real], axis=0)
        weight = tf.where(is_real, 1.0 / tf.cast(everywhere, tf.float32), 0.0)
        condition = Condition(*(_joined(part) for part in zip(*condition, strict=True)))
        return Batch(_joined(audio), condition, position, weight)

    return tf.data.Dataset.zip((tf.data.Dataset.range(2**31 - 1), *parts)).map(join)


def _joined(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=0)


def _examples(clips: Clips, config: Config, manifest: Manifest, seeds: tf.Tensor) -> tf.data.Dataset:
    """Audio and condition of one stream: crops of every clip at random places, a little louder or softer.

    Some have parts of their condition left open, so that a model also learns to do without. Clips that are
    held give the same examples as those that are read, but only places are shuffled, and cut last.
    """
    held = clips if isinstance(clips, Clip) else None
    if held is not None:
        rows = tf.range(len(held.track_id))
        clips = tf.data.Dataset.from_tensor_slices(Clip(rows, held.condition, held.track_id))
    order, places, chances = (seeds[index] for index in range(3))
    names = sorted(manifest.attributes)
    louder = np.array([1 / manifest.attributes[name].std if name == LOUDNESS else 0.0 for name in names])
    crops_per_clip, length = _crops_per_clip(config), _crop_length(config, manifest)

    def crop(index: tf.Tensor, clip: Clip) -> tf.data.Dataset:
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
            tf.where(left_open[:, 0], DROPPED_GENRE, clip.condition.genre),
            tf.where(left_open[:, 1:], math.nan, attributes),
        )
        return tf.data.Dataset.from_tensor_slices((audio, condition))

    def cut(place: tuple[tf.Tensor, ...], condition: Condition) -> tuple[tf.Tensor, Condition]:
        assert held is not None
        row, start, gain = place
        return held.audio[row, start : start + length] * gain, condition

    examples = (
        clips.shuffle(SHUFFLE_CLIPS, seed=order, reshuffle_each_iteration=False).enumerate().flat_map(crop)
    )
    if config.crop_samples:
        examples = examples.shuffle(SHUFFLE_CROPS, seed=order, reshuffle_each_iteration=False)
    return examples if held is None else examples.map(cut)


def count_steps(manifest: Manifest, config: Config) -> int:
    """Batches that `training_batches` gives in an epoch: as many as the longest stream has."""
    return -(-max(_stream_examples(manifest, config)) // (config.batch_size // config.input_shards))


def evaluation_batches(clips: Clips, batch_size: int, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
    """Whole clips in the shards' order, as `Batch`es; of several workers, the rows of one."""
    if isinstance(clips, Clip):
        clips = tf.data.Dataset.from_tensor_slices(clips)
    examples = clips.map(lambda clip: (clip.audio, clip.condition))
    first, last = (batch_size * number // workers for number in (worker, worker + 1))

    def part(audio: tf.Tensor, condition: Condition, real: tf.Tensor) -> Batch:
        position = tf.range(batch_size)
        weight = tf.where(position < real, 1.0 / tf.cast(real, tf.float32), 0.0)
        return tf.nest.map_structure(lambda rows: rows[first:last], Batch(audio, condition, position, weight))

    return _ahead(_full_batches(examples, batch_size, examples.element_spec[0].shape[0]).map(part))


def _full_batches(examples: tf.data.Dataset, size: int, length: int) -> tf.data.Dataset:
    """Audio and condition of `size` examples, and how many of them are real; the last batch is filled up."""

    def fill(audio: tf.Tensor, condition: Condition) -> tuple[tf.Tensor, Condition, tf.Tensor]:
        real = tf.shape(audio)[0]
        source = tf.minimum(tf.range(size), real - 1)
        condition = Condition(*(tf.gather(part, source) for part in condition))
        return tf.ensure_shape(tf.gather(audio, source), [size, length]), condition, real

    return examples.batch(size).map(fill)


def _nothing(batches: tf.data.Dataset) -> tf.data.Dataset:
    """A batch of silence that weighs nothing."""
    zeros = (tf.zeros([n or 0 for n in of.shape], of.dtype) for of in tf.nest.flatten(batches.element_spec))
    return tf.data.Dataset.from_tensors(tf.nest.pack_sequence_as(batches.element_spec, list(zeros)))


def _ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Its loop backs off to sleeps of many seconds, and an iterator that ends waits for the sleep to end.
    options.autotune.enabled = False
    return batches.prefetch(PREFETCH_BATCHES).with_options(options)


def _stream_examples(manifest: Manifest, config: Config) -> list[int]:
    """How many an epoch has of each stream."""
    shards = manifest.split_shards("train")
    dealt = (shards[number :: config.input_shards] for number in range(config.input_shards))
    return [sum(shard.records for shard in own) * _crops_per_clip(config) for own in dealt]


def _crops_per_clip(config: Config) -> int:
    return config.crops_per_clip if config.crop_samples else 1


def _crop_length(config: Config, manifest: Manifest) -> int:
    return min(config.crop_samples or manifest.clip_samples, manifest.clip_samples)


def _epoch_seeds(seed: int, epoch: int, stream: int) -> list[int]:
    key = tf.constant([seed, epoch])
    key = tf.random.experimental.stateless_fold_in(key, stream) if stream else key
    return tf.random.stateless_uniform([3], key, 0, 2**31 - 1, tf.int32).numpy().tolist()
