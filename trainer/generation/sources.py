"""The source clips that modes other than `prior` work on."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from preprocessing.errors import DataError, UsageError
from trainer.data import dataset
from trainer.data.fetch import open_dataset
from trainer.generation.generator import Generator
from trainer.generation.options import Options
from trainer.generation.source_files import read_source_file
from trainer.reporting import wav
from trainer.runs.directory import ORIGINALS, SAMPLE_CLIPS
from trainer.runs.storage import is_remote

MAX_TEST_CLIPS = 1_000  # in memory


class SourceClip(NamedTuple):
    """A real clip that generation starts from."""

    audio: np.ndarray  # [samples] float32 in [-1, 1]
    name: str  # the track's, or the file's
    genre: str | None  # None: unknown
    file_sha256: str | None = None  # of a user's file

    def sha256(self) -> str:
        """Return the digest of the user's file, or else of the samples."""
        return self.file_sha256 or hashlib.sha256(np.ascontiguousarray(self.audio).tobytes()).hexdigest()


def choose_sources(
    generator: Generator, options: Options, cache: Path, known: list[SourceClip] | None = None
) -> list[SourceClip]:
    """Choose the source clips; none for the mode `prior` alone.

    They are those that `options.sources` names, files or test clips; otherwise `options.count` test clips, or two for
    an interpolation, repeated if there are fewer. Test clips are those of the dataset `options.data`, or else the run's
    fixed ones. Their list `known` saves reading them again.

    Raises:
        CommandError: The dataset has another sample rate, the genre is unknown or a file is too short (exit code 2), a
            file is no recording, there is no dataset or the run has no test clips (3), or storage failed (4).
    """
    if set(options.modes) == {"prior"}:
        return []
    if generator.model.capabilities.conditional:
        generator.condition(1, options.genre)  # refuses an unknown genre
    if options.sources:
        are_files = [is_remote(uri) or Path(uri).is_file() for uri in options.sources]
        clips = [] if all(are_files) else known or read_test_clips(generator, options.data, cache)
        named = {clip.name: clip for clip in clips}
        return [
            _own_clip(generator, uri, options.genre) if is_file else _test_clip(named, uri)
            for uri, is_file in zip(options.sources, are_files, strict=True)
        ]
    clips = known or read_test_clips(generator, options.data, cache)
    if options.genre is not None:
        clips = [clip for clip in clips if clip.genre == options.genre]
    count = max(options.count, 2) if {*options.modes} in ({*()}, {"interpolate"}) else options.count
    return [clips[index % len(clips)] for index in range(count)] if clips else []


def read_test_clips(generator: Generator, data: str | None, cache: Path) -> list[SourceClip]:
    """Read the test clips of a dataset, or the run's fixed ones if `data` is None; raises as `choose_sources`."""
    if data is None:
        return fixed_test_clips(generator.path)
    return dataset_clips(data, cache, generator.sample_rate_hz, ["test"], MAX_TEST_CLIPS)


def fixed_test_clips(run: Path) -> list[SourceClip]:
    """Read the test clips that training rendered after each epoch, from the run's directory.

    Raises:
        CommandError: The run has none, or they are corrupt (exit code 3).
    """
    path = run / SAMPLE_CLIPS
    if not path.exists():
        raise DataError(f"`run` has no {SAMPLE_CLIPS}: name a dataset with `data`")
    try:
        return [
            SourceClip(wav.read_wav(run / ORIGINALS / f"{clip['name']}.wav"), clip["track_id"], clip["genre"])
            for clip in json.loads(path.read_text())
        ]
    except (ValueError, KeyError, TypeError, soundfile.LibsndfileError) as error:
        raise DataError(
            f"a test clip of the run {run} is missing or corrupt ({error}): restore it"
        ) from error


def fit_length(generator: Generator, audio: np.ndarray) -> np.ndarray:
    """Cut `[samples]` to the length that the model supports, if it supports only one.

    Raises:
        CommandError: It is too short (exit code 2).
    """
    capabilities, samples = generator.model.capabilities, len(audio)
    fits = capabilities.any_length or samples >= generator.clip_samples
    if not fits or samples < generator.model.smallest_samples:
        needed = generator.model.smallest_samples if capabilities.any_length else generator.clip_samples
        rate_hz = generator.sample_rate_hz
        raise UsageError(f"it has {samples / rate_hz:.2f} s, and the model needs {needed / rate_hz:.2f} s")
    return audio if capabilities.any_length else audio[: generator.clip_samples]


def _test_clip(named: dict[str, SourceClip], name: str) -> SourceClip:
    if name not in named:
        raise DataError(f"{name} is neither a file nor the name of a test clip: check the path")
    return named[name]


def _own_clip(generator: Generator, uri: str, genre: str | None) -> SourceClip:
    file = read_source_file(uri, generator.sample_rate_hz)
    try:
        audio = fit_length(generator, file.audio)
    except UsageError as error:
        raise UsageError(f"{uri} is too short: {error}") from error
    return SourceClip(audio, uri.rpartition("/")[2], genre, file.sha256)


def dataset_clips(
    data: str, cache: Path, sample_rate_hz: int, splits: Sequence[str], limit: int
) -> list[SourceClip]:
    """Read clips of splits of a dataset, evenly spread over them if there are more than `limit`.

    Raises:
        CommandError: The dataset has another sample rate (exit code 2), there is none (3), or storage failed (4).
    """
    source, manifest = open_dataset(data, cache)
    if manifest.sample_rate_hz != sample_rate_hz:
        raise UsageError(
            f"`data` {data} is at {manifest.sample_rate_hz} Hz, the run at {sample_rate_hz} Hz: "
            "preprocess it at the run's sample rate",
        )
    present = [split for split in splits if manifest.clip_count(split)]
    every = math.ceil(sum(map(manifest.clip_count, present)) / limit)
    with source:
        clips = [dataset.read_clips(source, dataset.open_split(source, manifest, split)) for split in present]
        return [
            SourceClip(
                clip.audio, clip.track_id.decode("utf-8", "replace"), manifest.genres[clip.condition.genre]
            )
            for clip in itertools.islice(itertools.chain.from_iterable(clips), 0, None, every)
        ]
