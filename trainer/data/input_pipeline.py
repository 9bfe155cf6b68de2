"""`tf.data` pipelines from clips to batches.

The order of training examples is a pure function of seed, epoch and number of input shards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from trainer.conditioning import DROPPED_GENRE, DROPPED_KEY, Condition
from trainer.config import Config
from trainer.data.clip_store import Clips, StoredClips
from trainer.data.dataset import Clip

# Sizes of the shuffle buffers of clips and of crops, which are smaller for clips of more samples.
SHUFFLE_CLIPS, SHUFFLE_CROPS = 512, 4_096
SHUFFLE_SAMPLES = 50_000_000  # in the first buffer: 200 MB, more than 512 clips of the default format
PREFETCH_BATCHES = 4
# Share of the crops whose whole condition is dropped, in addition to `condition_dropout` of its parts.
UNCONDITIONAL_RATE = 0.15
LOUDNESS = "loudness_db"


class Batch(NamedTuple):
    """Input of a training step.

    An example carries its position in the global batch and its weight in that batch's mean, so that neither depends on
    how the batch is divided among replicas. Every batch is full: the last one of an epoch is padded with examples of
    weight 0, so that every replica has some.
    """

    audio: tf.Tensor  # [batch, samples] float32 in [-1, 1]
    condition: Condition  # of each example
    position: tf.Tensor  # [batch] int32, in the global batch
    weight: tf.Tensor  # [batch] float32, one over the number of examples in the global batch; 0 for padding


def training_batches(
    input_shards: Sequence[Clips], config: Config, manifest: Manifest, epochs: Sequence[int], first: int = 0
) -> tf.data.Dataset:
    """Make the training batches of some epochs, one epoch after the other.

    Each input shard fills an equal share of every global batch until its clips are used up. A worker that reads only
    some of the input shards gets their share. All epochs are one dataset, since starting one takes longer than a step.

    Args:
        input_shards: The clips of each input shard that this worker reads.
        config: Batch size, number of input shards of all workers, crops and augmentation.
        manifest: Of the dataset.
        epochs: Their numbers, from 1.
        first: Number of the worker's first input shard.

    Returns:
        A dataset of `Batch`.
    """
    numbers = range(first, first + len(input_shards))
    seeds = [[_epoch_seeds(config.seed, epoch, number) for number in numbers] for epoch in epochs]

    def epoch_batches(seeds: tf.Tensor) -> tf.data.Dataset:
        tf.random.set_seed(1)  # in this graph only: the order must not depend on the program's seed
        return _epoch(input_shards, config, manifest, seeds, first)

    return _prefetched(
        tf.data.Dataset.from_tensor_slices(tf.constant(seeds, tf.int64)).flat_map(epoch_batches)
    )


def _epoch(
    input_shards: Sequence[Clips], config: Config, manifest: Manifest, seeds: tf.Tensor, first: int
) -> tf.data.Dataset:
    """Make the batches of one epoch; `seeds` is `[input_shards, 3]`."""
    size = config.batch_size // config.input_shards
    counts = _shard_examples(manifest, config)
    parts = []
    for number, clips in enumerate(input_shards):
        examples = _examples(clips, config, manifest, seeds[number])
        part = _full_batches(examples, size, crop_length(config, manifest))
        missing = count_steps(manifest, config) - -(-counts[first + number] // size)
        parts.append(part.concatenate(_padding(part).repeat(missing)) if missing else part)
    position = size * first + tf.range(size * len(input_shards))

    def join(step: tf.Tensor, *parts: tuple[tf.Tensor, Condition, tf.Tensor]) -> Batch:
        audio, condition, real = zip(*parts, strict=True)
        global_count = tf.reduce_sum(tf.clip_by_value(counts - tf.cast(step, tf.int32) * size, 0, size))
        is_real = tf.concat([tf.range(size) < count for count in real], axis=0)
        weight = tf.where(is_real, 1.0 / tf.cast(global_count, tf.float32), 0.0)
        condition = Condition(*(_concatenated(part) for part in zip(*condition, strict=True)))
        return Batch(_concatenated(audio), condition, position, weight)

    return tf.data.Dataset.zip((tf.data.Dataset.range(2**31 - 1), *parts)).map(join)


def _concatenated(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=0)


def _examples(clips: Clips, config: Config, manifest: Manifest, seeds: tf.Tensor) -> tf.data.Dataset:
    """Make audio and condition of one input shard's examples: crops of every clip at random offsets, with random gain.

    Random parts of the conditions are dropped, as classifier-free guidance needs. Crops are shuffled before they are
    cut: the buffer holds each clip once, or its row if clips are stored, which gives the same examples.
    """
    sources, store = clips if isinstance(clips, StoredClips) else (clips, None)
    order, offsets, chances = (seeds[index] for index in range(3))
    names = sorted(manifest.attributes)
    per_db = np.array([1 / manifest.attributes[name].std if name == LOUDNESS else 0.0 for name in names])
    crops_per_clip, length = _crops_per_clip(config), crop_length(config, manifest)

    def crop(index: tf.Tensor, clip: Clip) -> tf.data.Dataset:
        last = manifest.clip_samples - length + 1
        starts = tf.random.stateless_uniform([crops_per_clip], [offsets, index], 0, last, tf.int32)
        chance = tf.random.stateless_uniform([crops_per_clip, len(names) + 4], [chances, index])
        gain_db = config.gain_db * (2 * chance[:, :1] - 1)
        dropped = chance[:, 2:] < config.condition_dropout
        if config.condition_dropout:
            dropped |= chance[:, 1:2] < UNCONDITIONAL_RATE
        attributes = clip.condition.attributes + gain_db * tf.constant(per_db, tf.float32)
        condition = Condition(
            tf.where(dropped[:, 0], DROPPED_GENRE, clip.condition.genre),
            tf.where(dropped[:, 1:-1], math.nan, attributes),
            tf.where(dropped[:, -1], DROPPED_KEY, clip.condition.key),
        )
        crops = tf.data.Dataset.from_tensor_slices((starts, 10 ** (gain_db / 20), condition))
        # All crops share one tensor.
        return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(clip.audio).repeat(crops_per_clip), crops))

    def cut(source: tf.Tensor, crop: tuple[tf.Tensor, tf.Tensor, Condition]) -> tuple[tf.Tensor, Condition]:
        start, gain, condition = crop
        audio = source[start : start + length] if store is None else store.audio(source, start, length)
        return audio * gain, condition

    clips_size, crops_size = _shuffle_sizes(manifest)
    crops = _shuffled(sources, clips_size, order).enumerate().flat_map(crop)
    return (_shuffled(crops, crops_size, order) if config.crop_samples else crops).map(cut)


def _shuffled(elements: tf.data.Dataset, size: int, order: tf.Tensor) -> tf.data.Dataset:
    return elements.shuffle(size, seed=order, reshuffle_each_iteration=False)


def _shuffle_sizes(manifest: Manifest) -> tuple[int, int]:
    """Return the sizes of the shuffle buffers of clips and of crops."""
    share = min(1.0, SHUFFLE_SAMPLES / (SHUFFLE_CLIPS * manifest.clip_samples))
    return max(1, int(share * SHUFFLE_CLIPS)), max(1, int(share * SHUFFLE_CROPS))


def shuffled_clips(manifest: Manifest, config: Config) -> int:
    """Estimate how many clips the shuffle buffers of all input shards hold at a time if they are not stored."""
    clips, crops = _shuffle_sizes(manifest)
    # The crops in the buffer hold the clips that they are of. Of n crops of a clip, the last one to be drawn takes
    # 1 + 1/2 + ... + 1/n times as long as one of them on average.
    crops_per_clip = config.crops_per_clip if config.crop_samples else 0
    share = sum(1 / (number + 1) for number in range(crops_per_clip)) / max(1, crops_per_clip)
    return min(manifest.clip_count("train"), config.input_shards * (clips + math.ceil(crops * share)))


def example_clips(manifest: Manifest, config: Config, epoch: int, number: int) -> tf.data.Dataset:
    """Make the numbers of the clips, in the order of the files, of which an input shard's examples are crops.

    They are int64 and in the order of the examples in the epoch.
    """

    def shuffle(order: tf.Tensor) -> tf.data.Dataset:
        tf.random.set_seed(1)  # as in `training_batches`
        clips = _shuffled(tf.data.Dataset.range(examples // crops_per_clip), clips_size, order)
        crops = clips.flat_map(lambda clip: tf.data.Dataset.from_tensors(clip).repeat(crops_per_clip))
        return _shuffled(crops, crops_size, order) if config.crop_samples else crops

    examples, crops_per_clip = _shard_examples(manifest, config)[number], _crops_per_clip(config)
    clips_size, crops_size = _shuffle_sizes(manifest)
    order = tf.constant(_epoch_seeds(config.seed, epoch, number)[:1], tf.int64)
    return tf.data.Dataset.from_tensor_slices(order).flat_map(shuffle)


def count_steps(manifest: Manifest, config: Config) -> int:
    """Return the number of training steps of an epoch: that of the largest input shard."""
    return -(-max(_shard_examples(manifest, config)) // (config.batch_size // config.input_shards))


def evaluation_batches(clips: Clips, batch_size: int, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
    """Make batches of whole clips in the order of the files; with several workers, one worker's slices of them.

    Args:
        clips: The split.
        batch_size: Of the global batches.
        worker: Index of the worker.
        workers: Number of workers.

    Returns:
        A dataset of `Batch`.
    """
    sources, store = clips if isinstance(clips, StoredClips) else (clips, None)

    def example(clip: Clip) -> tuple[tf.Tensor, Condition]:
        return clip.audio if store is None else store.whole_audio(clip.audio), clip.condition

    examples = sources.map(example)
    first, last = (batch_size * number // workers for number in (worker, worker + 1))

    def part(audio: tf.Tensor, condition: Condition, real: tf.Tensor) -> Batch:
        position = tf.range(batch_size)
        weight = tf.where(position < real, 1.0 / tf.cast(real, tf.float32), 0.0)
        return tf.nest.map_structure(lambda rows: rows[first:last], Batch(audio, condition, position, weight))

    return _prefetched(_full_batches(examples, batch_size, examples.element_spec[0].shape[0]).map(part))


def _full_batches(examples: tf.data.Dataset, size: int, length: int) -> tf.data.Dataset:
    """Batch audio and condition, padding the last batch; the third component is the number of real examples."""

    def fill(audio: tf.Tensor, condition: Condition) -> tuple[tf.Tensor, Condition, tf.Tensor]:
        real = tf.shape(audio)[0]
        source = tf.minimum(tf.range(size), real - 1)
        condition = Condition(*(tf.gather(part, source) for part in condition))
        return tf.ensure_shape(tf.gather(audio, source), [size, length]), condition, real

    return examples.batch(size).map(fill)


def _padding(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Make one batch of silence without real examples."""
    specs = tf.nest.flatten(batches.element_spec)
    zeros = (tf.zeros([size or 0 for size in spec.shape], spec.dtype) for spec in specs)
    return tf.data.Dataset.from_tensors(tf.nest.pack_sequence_as(batches.element_spec, list(zeros)))


def _prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Autotuning backs off to sleeps of many seconds, and ending an iterator waits until its thread wakes up.
    options.autotune.enabled = False
    return batches.prefetch(PREFETCH_BATCHES).with_options(options)


def _shard_examples(manifest: Manifest, config: Config) -> list[int]:
    """Return the number of examples per epoch of each input shard."""
    files = manifest.split_shards("train")
    shards = (files[number :: config.input_shards] for number in range(config.input_shards))
    return [sum(file.records for file in shard) * _crops_per_clip(config) for shard in shards]


def _crops_per_clip(config: Config) -> int:
    return config.crops_per_clip if config.crop_samples else 1


def crop_length(config: Config, manifest: Manifest) -> int:
    """Return the samples of a training example."""
    return min(config.crop_samples or manifest.clip_samples, manifest.clip_samples)


def _epoch_seeds(seed: int, epoch: int, number: int) -> list[int]:
    """Derive the seeds of an input shard's order, crop offsets and augmentation in an epoch."""
    key = tf.constant([seed, epoch])
    key = tf.random.experimental.stateless_fold_in(key, number) if number else key
    return tf.random.stateless_uniform([3], key, 0, 2**31 - 1, tf.int32).numpy().tolist()
