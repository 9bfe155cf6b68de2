"""The source clips that modes other than `prior` work on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from preprocessing.errors import DataError, UsageError
from trainer.data import dataset
from trainer.data.fetch import open_dataset
from trainer.generation.generator import Generator
from trainer.generation.options import Options
from trainer.reporting import wav
from trainer.runs.directory import ORIGINALS, SAMPLE_CLIPS


class SourceClip(NamedTuple):
    """A real clip that generation starts from."""

    audio: np.ndarray  # [clip_samples] float32 in [-1, 1]
    track_id: str
    genre: str


def choose_sources(generator: Generator, options: Options, cache: Path) -> list[SourceClip]:
    """Choose `options.count` source clips, repeated where there are fewer; none for the mode `prior` alone.

    They come from the test split of `options.data` if it is given, else they are the run's fixed test clips.

    Raises:
        CommandError: The dataset has another sample rate (exit code 2), there is no dataset or the run has no
            test clips (3), or storage failed (4).
    """
    if set(options.modes) == {"prior"}:
        return []
    if options.data is None:
        clips = fixed_test_clips(generator.path)
    else:
        clips = _test_split(options.data, cache, generator.sample_rate_hz)
    if options.genre is not None:
        clips = [clip for clip in clips if clip.genre == options.genre]
    return [clips[index % len(clips)] for index in range(options.count)] if clips else []


def fixed_test_clips(run: Path) -> list[SourceClip]:
    """Read the test clips that training rendered after each epoch, from the run's directory.

    Raises:
        CommandError: The run has none (exit code 3).
    """
    path = run / SAMPLE_CLIPS
    if not path.exists():
        raise DataError(f"`run` has no {SAMPLE_CLIPS}: name a dataset with `data`")
    return [
        SourceClip(wav.read_wav(run / ORIGINALS / f"{clip['name']}.wav"), clip["track_id"], clip["genre"])
        for clip in json.loads(path.read_text())
    ]


def _test_split(data: str, cache: Path, sample_rate_hz: int) -> list[SourceClip]:
    folder, manifest = open_dataset(data, cache)
    if manifest.sample_rate_hz != sample_rate_hz:
        raise UsageError(
            f"`data` {data} is at {manifest.sample_rate_hz} Hz, the run at {sample_rate_hz} Hz: "
            "preprocess it at the run's sample rate",
        )
    return [
        SourceClip(
            clip.audio, clip.track_id.decode("utf-8", "replace"), manifest.genres[clip.condition.genre]
        )
        for clip in dataset.open_split(folder, manifest, "test").as_numpy_iterator()
    ]
