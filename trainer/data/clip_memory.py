"""Clips in memory, so that no epoch reads and parses them again.

They are numpy arrays: TensorFlow's pipelines would copy tensors that they refer to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from trainer.conditioning import Condition
from trainer.data.dataset import Clip


def fits_in_memory(manifest: Manifest, splits: Sequence[str], cache_mb: int) -> bool:
    """Tell whether the decoded clips of `splits` take at most `cache_mb` megabytes."""
    clips = sum(manifest.clip_count(split) for split in splits)
    return clips * manifest.clip_samples * np.dtype(np.float32).itemsize <= cache_mb * 1_000_000


class ClipMemory:
    """Room for `count` clips, which are stored while a pipeline reads them for the first time."""

    def __init__(self, manifest: Manifest, count: int) -> None:
        self._audio = np.empty([count, manifest.clip_samples], np.float32)
        self._condition = Condition(
            np.empty([count], np.int32),
            np.empty([count, len(manifest.attributes)], np.float32),
            np.empty([count], np.int32),
        )
        self._track_ids = np.empty([count], object)

    def storing(self, clips: tf.data.Dataset) -> ClipsInMemory:
        """Read all clips, from the first to the last, and store each when it is read."""

        def store(row: tf.Tensor, clip: Clip) -> Clip:
            row = tf.numpy_function(self._store, [row, clip.audio, *clip.condition, clip.track_id], tf.int64)
            return clip._replace(audio=tf.ensure_shape(row, []))

        return ClipsInMemory(clips.enumerate().map(store), self)

    def read(self, clips: tf.data.Dataset) -> ClipsInMemory:
        """Read and store all clips."""
        for _ in self.storing(clips).rows:
            pass
        return self.stored()

    def stored(self) -> ClipsInMemory:
        """Return all clips; `storing` must have ended."""
        rows = np.arange(len(self._audio))
        clips = Clip(rows, self._condition, self._track_ids.astype(np.bytes_))
        return ClipsInMemory(tf.data.Dataset.from_tensor_slices(clips), self)

    def take(self, rows: Sequence[int]) -> Clip:
        """Return clips as numpy arrays, stacked."""
        chosen = list(rows)
        condition = Condition(*(values[chosen] for values in self._condition))
        return Clip(self._audio[chosen], condition, self._track_ids[chosen])

    def audio(self, row: tf.Tensor, start: tf.Tensor | int, length: int) -> tf.Tensor:
        """Return `[length]` samples of a clip, from sample `start` on."""

        def read(row: np.ndarray, start: np.ndarray) -> np.ndarray:
            return self._audio[row, start : start + length]

        audio = tf.numpy_function(read, [row, start], tf.float32, stateful=False)
        return tf.ensure_shape(audio, [length])

    def whole_audio(self, row: tf.Tensor) -> tf.Tensor:
        """Return `[clip_samples]`, a whole clip."""
        return self.audio(row, 0, self._audio.shape[1])

    def _store(
        self,
        row: np.ndarray,
        audio: np.ndarray,
        genre: np.ndarray,
        attributes: np.ndarray,
        key: np.ndarray,
        track_id: bytes,
    ) -> np.ndarray:
        self._audio[row], self._track_ids[row] = audio, track_id
        for values, value in zip(self._condition, (genre, attributes, key), strict=True):
            values[row] = value
        return row


class ClipsInMemory(NamedTuple):
    """Clips whose audio is in memory, at the latest when their rows are read."""

    rows: tf.data.Dataset  # of `Clip`, with a row of `memory` in place of the audio
    memory: ClipMemory


Clips = tf.data.Dataset | ClipsInMemory  # of a split or input shard: read at each use, or in memory
