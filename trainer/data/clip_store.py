"""Decoded clips in a scratch file, so that no epoch parses them again.

The operating system keeps the file in memory as far as there is room, and the process does not grow with the dataset.
"""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Manifest
from trainer.conditioning import Condition
from trainer.data.dataset import Clip
from trainer.data.shards import disk_errors

LIMIT = "clip_cache_gb"  # the setting by which fewer clips are stored
SAMPLE_BYTES = np.dtype(np.float32).itemsize


def decoded_bytes(manifest: Manifest, splits: Sequence[str]) -> int:
    """Return the size of the decoded clips of `splits`."""
    return sum(manifest.clip_count(split) for split in splits) * manifest.clip_samples * SAMPLE_BYTES


class ClipStore:
    """Room for `count` clips: those of a pipeline, stored while it reads them for the first time, or single ones.

    The file has no name: it is gone as soon as the store is closed, or the process ends, in whatever way.
    """

    def __init__(self, manifest: Manifest, count: int, folder: Path) -> None:
        """Make the file in `folder`.

        Raises:
            StorageError: The disk is full, or `folder` cannot be written (exit code 4).
        """
        self._samples, self._folder = manifest.clip_samples, folder
        with disk_errors(folder, LIMIT):
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor, name = tempfile.mkstemp(dir=folder)
            # Datasets refer to the store, and TensorFlow may keep them until the process ends: `close` does not wait.
            self.close = weakref.finalize(self, os.close, self._descriptor)
            Path(name).unlink()
            size = count * self._samples * SAMPLE_BYTES
            # Later writes then cannot fail for want of room. macOS lacks it.
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._descriptor, 0, size)
        self._condition = Condition(
            np.empty([count], np.int32),
            np.empty([count, len(manifest.attributes)], np.float32),
            np.empty([count], np.int32),
        )
        self._track_ids = np.empty([count], object)

    def storing(self, clips: tf.data.Dataset) -> StoredClips:
        """Read all clips, from the first to the last, and store each when it is read."""

        def store(row: tf.Tensor, clip: Clip) -> Clip:
            row = tf.numpy_function(self._store, [row, clip.audio, *clip.condition, clip.track_id], tf.int64)
            return clip._replace(audio=tf.ensure_shape(row, []))

        return StoredClips(clips.enumerate().map(store), self)

    def read(self, clips: tf.data.Dataset) -> StoredClips:
        """Read and store all clips."""
        for _ in self.storing(clips).rows:
            pass
        return self.stored()

    def stored(self) -> StoredClips:
        """Return all clips; `storing` must have ended."""
        rows = np.arange(len(self._track_ids))
        clips = Clip(rows, self._condition, self._track_ids.astype(np.bytes_))
        return StoredClips(tf.data.Dataset.from_tensor_slices(clips), self)

    def write(self, row: int, clip: Clip) -> None:
        """Store a clip, of numpy arrays.

        Raises:
            StorageError: The disk is full (exit code 4), which is only possible where no room can be reserved.
        """
        with disk_errors(self._folder, LIMIT):
            written = os.pwrite(self._descriptor, clip.audio.data, row * self._samples * SAMPLE_BYTES)
            if written < clip.audio.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._track_ids[row] = clip.track_id
        for values, value in zip(self._condition, clip.condition, strict=True):
            values[row] = value

    def take(self, rows: Iterable[int]) -> Clip:
        """Return clips as numpy arrays, stacked."""
        chosen = list(rows)
        audio = np.stack([self._load(row, 0, self._samples) for row in chosen])
        condition = Condition(*(values[chosen] for values in self._condition))
        return Clip(audio, condition, self._track_ids[chosen])

    def audio(self, row: tf.Tensor, start: tf.Tensor | int, length: int) -> tf.Tensor:
        """Return `[length]` samples of a clip, from sample `start` on."""

        def load(row: np.ndarray, start: np.ndarray) -> np.ndarray:
            return self._load(int(row), int(start), length)

        audio = tf.numpy_function(load, [row, start], tf.float32, stateful=False)
        return tf.ensure_shape(audio, [length])

    def whole_audio(self, row: tf.Tensor) -> tf.Tensor:
        """Return `[clip_samples]`, a whole clip."""
        return self.audio(row, 0, self._samples)

    def _load(self, row: int, start: int, length: int) -> np.ndarray:
        offset = (row * self._samples + start) * SAMPLE_BYTES
        return np.frombuffer(os.pread(self._descriptor, length * SAMPLE_BYTES, offset), np.float32)

    def _store(self, row: np.ndarray, audio: np.ndarray, *others: Any) -> np.ndarray:
        *condition, track_id = others
        self.write(int(row), Clip(audio, Condition(*condition), track_id))
        return row


class StoredClips(NamedTuple):
    """Clips whose audio is in a store, at the latest when their rows are read."""

    rows: tf.data.Dataset  # of `Clip`, with a row of `store` in place of the audio
    store: ClipStore


Clips = tf.data.Dataset | StoredClips  # of a split or input shard: read from shards at each use, or stored
