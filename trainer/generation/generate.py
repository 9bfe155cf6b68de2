"""The command `generate`: every mode to make music, as WAV files with pictures and a list of what they are."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer.data import dataset
from trainer.data.fetch import open_dataset
from trainer.generation.generator import Generator, load
from trainer.generation.options import Options
from trainer.reporting import clip_figures, wav
from trainer.runs.directory import MUSIC, ORIGINALS, SAMPLE_CLIPS
from trainer.runs.storage import Prefix, is_remote

CONTINUED_PART = 1 / 3  # of a clip, that a continuation is given


class Start(NamedTuple):
    """A clip to start from, `[clip_samples]` float32."""

    audio: np.ndarray
    track_id: str
    genre: str


class Made(NamedTuple):
    """What one mode made."""

    mode: str
    audio: np.ndarray  # [clips, samples]
    titles: list[str]
    genres: list[str | None]  # that each was asked to be
    starts: list[Start]  # one for each clip, or none


def generate(run: str, output: str, cache: Path, options: Options) -> list[str]:
    """Writes a folder of WAV files and pictures for each mode, and `music.json`; returns the files' names.

    Raises:
        CommandError: An unknown mode, genre or attribute (2), no run or no data (3), storage failed (4).
    """
    music = load(run, cache)
    starts = _starts(music, options, cache)
    made = list(generate_all(music, starts, options))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if is_remote(output) else Path(output)
        files = write(folder, made, music.sample_rate_hz, options)
        if is_remote(output):
            everything = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            Prefix(output).upload(everything, folder)
    return files


def generate_all(music: Generator, starts: list[Start], options: Options) -> Iterator[Made]:
    """Makes music in each of the modes, with a progress bar."""
    modes = options.modes or music.model.modes
    for mode in modes:
        music.require_mode(mode)
    if not starts and set(modes) != {"prior"}:
        modes = [mode for mode in modes if mode == "prior"]
        print(f"no {options.genre} among the clips to start from, so only new ones: --data names a dataset")
    for mode in tqdm(modes, desc="making music", unit=" modes", leave=False):
        yield _MAKERS[mode](music, starts, options)


def _prior(music: Generator, starts: list[Start], options: Options) -> Made:
    names: list[str | None] = [options.genre] * options.count
    if options.genre is None and music.model.conditional:
        names = [music.genres[index % len(music.genres)] for index in range(options.count)]
    settings = (options.secs, options.temperature, options.guidance)
    audio = music.prior(options.count, options.seed, names, options.attributes, *settings)
    return Made("prior", audio, [name or f"new {index:02d}" for index, name in enumerate(names)], names, [])


def _vary(music: Generator, starts: list[Start], options: Options) -> Made:
    known = _known(music, starts)
    return _from(
        starts, "variation", music.vary(_audio(starts), options.noise_scale, options.seed, known), known
    )


def _reconstruct(music: Generator, starts: list[Start], options: Options) -> Made:
    known = _known(music, starts)
    return _from(starts, "reconstruct", music.reconstruct(_audio(starts), known), known)


def _interpolate(music: Generator, starts: list[Start], options: Options) -> Made:
    ends = [starts[0], starts[-1]]
    known = _known(music, ends)
    audio = music.interpolate(ends[0].audio, ends[1].audio, options.steps, known)
    titles = [f"{100 * step // (options.steps - 1)}%" for step in range(options.steps)]
    titles[0], titles[-1] = (start.track_id for start in ends)
    return Made("interpolate", audio, titles, [known[0], *[None] * (options.steps - 2), known[1]], [])


def _transfer(music: Generator, starts: list[Start], options: Options) -> Made:
    known = _known(music, starts)
    targets = [options.to_genre or _next_genre(music, start.genre) for start in starts]
    audio = music.transfer(_audio(starts), targets, known, options.seed, options.guidance)
    made = _from(starts, "transfer", audio, targets)
    pairs = zip(starts, targets, strict=True)
    return made._replace(titles=[f"{start.track_id} as {target}" for start, target in pairs])


def _continue(music: Generator, starts: list[Start], options: Options) -> Made:
    audio = _audio(starts)
    beginnings = audio[:, : int(audio.shape[1] * CONTINUED_PART)]
    known = _known(music, starts)
    settings = (options.attributes, options.temperature, options.guidance)
    secs = options.secs or audio.shape[1] / music.sample_rate_hz
    return _from(
        starts, "continue", music.continue_clips(beginnings, secs, options.seed, known, *settings), known
    )


_MAKERS = {
    "prior": _prior,
    "variation": _vary,
    "reconstruct": _reconstruct,
    "interpolate": _interpolate,
    "transfer": _transfer,
    "continue": _continue,
}


def _from(starts: list[Start], mode: str, audio: np.ndarray, genres: list[str | None]) -> Made:
    return Made(mode, audio, [start.track_id for start in starts], genres, starts)


def _audio(starts: list[Start]) -> np.ndarray:
    return np.stack([start.audio for start in starts])


def _known(music: Generator, starts: list[Start]) -> list[str | None]:
    """The starts' genres, where the model knows them: a clip from elsewhere has its genre left open."""
    known = music.model.conditional
    return [start.genre if known and start.genre in music.genres else None for start in starts]


def _next_genre(music: Generator, genre: str) -> str:
    if genre not in music.genres:
        return music.genres[0]
    return music.genres[(music.genres.index(genre) + 1) % len(music.genres)]


def write(folder: Path, made: list[Made], sample_rate_hz: int, options: Options) -> list[str]:
    """`<mode>/00.wav` ..., pictures beside them, and `music.json`; replaces what an earlier call left."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for one in made:
        target = folder / one.mode
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for index, (clip, title, genre) in enumerate(zip(one.audio, one.titles, one.genres, strict=True)):
            name = f"{one.mode}/{index:02d}.wav"
            wav.write_wav(folder / name, clip, sample_rate_hz, options.output_rate_hz)
            start = one.starts[index].track_id if one.starts else None
            lines.append({"file": name, "mode": one.mode, "title": title, "genre": genre, "from": start})
        shown = slice(clip_figures.PICTURED_CLIPS)  # more would be too small to see
        rows = {one.mode: one.audio[shown]}
        if one.starts and one.audio.shape[1] == len(one.starts[0].audio):
            rows = {"original": _audio(one.starts)[shown], **rows}
        clip_figures.draw_pictures(target, rows, sample_rate_hz, one.titles[shown], one.mode)
    (folder / MUSIC).write_text(json.dumps(lines, indent=2) + "\n")
    return [line["file"] for line in lines]


def _starts(music: Generator, options: Options, cache: Path) -> list[Start]:
    """The clips to start from: of the dataset's test split if one is given, else those that the run keeps."""
    if set(options.modes) == {"prior"}:
        return []
    found = source_clips(music) if options.data is None else _test_clips(music, options.data, cache)
    if options.genre is not None:
        found = [start for start in found if start.genre == options.genre]
    return [found[index % len(found)] for index in range(options.count)] if found else []


def source_clips(music: Generator) -> list[Start]:
    """The fixed test clips of the run."""
    listed = music.path / SAMPLE_CLIPS
    if not listed.exists():
        raise CommandError(
            f"--run has no {SAMPLE_CLIPS}: give --data, a dataset to take clips from", BAD_DATA
        )
    return [
        Start(
            wav.read_wav(music.path / ORIGINALS / f"{clip['name']}.wav"),
            clip["track_id"],
            clip["genre"],
        )
        for clip in json.loads(listed.read_text())
    ]


def _test_clips(music: Generator, data: str, cache: Path) -> list[Start]:
    folder, manifest = open_dataset(data, cache)
    if manifest.sample_rate_hz != music.sample_rate_hz:
        rates = f"{manifest.sample_rate_hz} Hz, the run's at {music.sample_rate_hz} Hz"
        raise CommandError(f"--data {data} is at {rates}: preprocess it at the run's", USAGE)
    return [
        Start(clip.audio, clip.track_id.decode("utf-8", "replace"), manifest.genres[clip.condition.genre])
        for clip in dataset.open_split(folder, manifest, "test").as_numpy_iterator()
    ]
