"""Sets of real clips, with conditions as a run's model takes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from preprocessing.dataset.keys import KEYS
from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import UsageError
from trainer.conditioning import DROPPED_KEY, Condition
from trainer.data import dataset
from trainer.data.read_ahead import ReadAhead
from trainer.generation.generator import Generator


class ClipSet(NamedTuple):
    """Real clips in the format of a run."""

    audio: np.ndarray  # [clips, samples] float32 in [-1, 1]
    condition: Condition  # of each clip, as the run's model takes it
    genres: np.ndarray  # [clips] str
    track_ids: list[str]


def read_clip_set(
    generator: Generator,
    source: ReadAhead,
    manifest: Manifest,
    split: str,
    track_ids: Collection[str] | None = None,
) -> ClipSet:
    """Read the clips of a split, all of them or those of `track_ids`; `source` hands out the files.

    Raises:
        CommandError: Their format is not the run's (2), the split has no clips or a corrupt shard (3), or storage
            failed (4).
    """
    if (manifest.sample_rate_hz, manifest.clip_samples) != (generator.sample_rate_hz, generator.clip_samples):
        raise UsageError(
            f"`data` has clips of {manifest.clip_samples} samples at {manifest.sample_rate_hz} Hz, the run's "
            f"have {generator.clip_samples} at {generator.sample_rate_hz} Hz: preprocess both with the same options",
        )
    split_clips = dataset.read_clips(source, dataset.open_split(source, manifest, split))
    clips = [clip for clip in split_clips if track_ids is None or _track_id(clip) in track_ids]
    genres = np.array([manifest.genres[clip.condition.genre] for clip in clips])
    attributes = np.stack([clip.condition.attributes for clip in clips])
    keys = np.array([clip.condition.key for clip in clips])
    condition = Condition(np.zeros(len(clips), np.int32), attributes, keys)
    if generator.model.capabilities.conditional:
        # In the run's genre indices, and in standard deviations of its training clips.
        known_genres = [str(genre) if genre in generator.genres else None for genre in genres]
        values = {
            name: attributes[:, column] * statistics.std + statistics.mean
            for column, (name, statistics) in enumerate(sorted(manifest.attributes.items()))
            if name in generator.metadata.attributes
        }
        key_names = [None if key == DROPPED_KEY else KEYS[key] for key in keys]
        condition = generator.condition(len(clips), known_genres, values, key_names)
    audio = np.stack([clip.audio for clip in clips])
    return ClipSet(audio, condition, genres, [_track_id(clip) for clip in clips])


def _track_id(clip: dataset.Clip) -> str:
    return clip.track_id.decode("utf-8", "replace")
