"""The command `generate`: clips of every mode as WAV files, with pictures and a list of the files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from preprocessing.storage.atomic import write_atomically
from trainer.generation import takes
from trainer.generation.generator import Generator, load
from trainer.generation.options import Options
from trainer.generation.sources import SourceClip, choose_sources
from trainer.generation.takes import Recipe
from trainer.reporting import clip_figures, wav
from trainer.runs.directory import MUSIC
from trainer.runs.storage import GcsPrefix, is_remote

CONTINUED_FRACTION = 1 / 3  # of a source clip that its continuation begins with


class GeneratedClips(NamedTuple):
    """The clips of one mode."""

    mode: str
    audio: np.ndarray  # [clips, samples] float32 in [-1, 1]
    titles: list[str]
    genres: Sequence[str | None]  # the genre that each was conditioned on
    sources: Sequence[SourceClip]  # one for each clip, or none at all


def generate(run: str, output: str, cache: Path, options: Options, like: Recipe | None = None) -> list[str]:
    """Write a take: a folder of WAV files and pictures for each mode, `music.json` and `recipe.json`.

    Args:
        run: A run or a folder of models, local or `gs://`.
        output: The folder of takes, local or `gs://`. What is in it stays as it is.
        cache: A local folder for copies of remote runs.
        options: What to generate.
        like: The recipe of a take whose checkpoint must be used.

    Returns:
        The names of the WAV files, relative to `output`.

    Raises:
        CommandError: A mode, genre or attribute is unknown (exit code 2), there is no run or no data, or the run has
            another checkpoint than `like` (3), or storage failed (4).
    """
    generator = load(run, cache)
    recipe = takes.make_recipe(run, generator.path, options)
    if like is not None:
        takes.check_checkpoint(like, recipe)
    sources = choose_sources(generator, options, cache)
    generated = list(generate_all(generator, sources, options))
    take = takes.new_take(output, recipe)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if is_remote(output) else Path(output) / take
        names = write_clips(folder, generated, generator.sample_rate_hz, options.output_rate_hz)
        write_atomically(folder / takes.RECIPE_NAME, recipe.to_json())
        if is_remote(output):
            files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            GcsPrefix(f"{output.rstrip('/')}/{take}").upload(files, folder)
    return [f"{take}/{name}" for name in names]


def generate_all(
    generator: Generator, sources: Sequence[SourceClip], options: Options
) -> Iterator[GeneratedClips]:
    """Generate clips in each mode, with a progress bar; without source clips, only in the mode `prior`.

    Raises:
        CommandError: The model lacks a mode, or a genre or an attribute is unknown (exit code 2).
    """
    modes = options.modes or generator.model.capabilities.modes
    for mode in modes:
        generator.require_mode(mode)
    if not sources and set(modes) != {"prior"}:
        modes = tuple(mode for mode in modes if mode == "prior")
        print(
            f"no source clip has the genre {options.genre}: generating in the mode prior only; to use other source "
            "clips, name a dataset with --data"
        )
    for mode in tqdm(modes, desc="generating", unit=" modes", leave=False):
        yield _GENERATE[mode](generator, sources, options)


def write_clips(
    folder: Path, generated: Sequence[GeneratedClips], sample_rate_hz: int, output_rate_hz: int | None = None
) -> list[str]:
    """Write `<mode>/00.wav` and so on, pictures beside them, and `music.json`; replace the files that it lists.

    Args:
        folder: Created if it is missing.
        generated: The clips of each mode.
        sample_rate_hz: Of the clips.
        output_rate_hz: Of the WAV files; None: that of the clips.

    Returns:
        The names of the WAV files, relative to `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _delete_listed(folder)
    entries = []
    for clips in generated:
        mode_folder = folder / clips.mode
        mode_folder.mkdir(exist_ok=True)
        for index, (audio, title, genre) in enumerate(
            zip(clips.audio, clips.titles, clips.genres, strict=True)
        ):
            name = f"{clips.mode}/{index:02d}.wav"
            wav.write_wav(folder / name, audio, sample_rate_hz, output_rate_hz)
            source = clips.sources[index].track_id if clips.sources else None
            entries.append({"file": name, "mode": clips.mode, "title": title, "genre": genre, "from": source})
        _draw_pictures(mode_folder, clips, sample_rate_hz)
    write_atomically(folder / MUSIC, json.dumps(entries, indent=2) + "\n")
    return [str(entry["file"]) for entry in entries]


def _delete_listed(folder: Path) -> None:
    """Delete the clips that `music.json` lists, with their pictures."""
    path = folder / MUSIC
    names = {entry["file"] for entry in json.loads(path.read_bytes())} if path.exists() else set()
    for mode in {name.partition("/")[0] for name in names}:
        names |= {f"{mode}/{picture}.png" for picture in clip_figures.PICTURES}
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _draw_pictures(folder: Path, clips: GeneratedClips, sample_rate_hz: int) -> None:
    """Draw the first clips, below their source clips where those are as long."""
    shown = slice(clip_figures.PICTURED_CLIPS)  # more would be too small to see
    rows = {clips.mode: clips.audio[shown]}
    if clips.sources and clips.audio.shape[1] == len(clips.sources[0].audio):
        rows = {"original": _stack(clips.sources)[shown], **rows}
    clip_figures.draw_pictures(folder, rows, sample_rate_hz, clips.titles[shown], clips.mode)


def _sample(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres: list[str | None] = [options.genre] * options.count
    if options.genre is None and generator.model.capabilities.conditional:
        genres = [generator.genres[index % len(generator.genres)] for index in range(options.count)]
    audio = generator.sample(
        options.count,
        options.seed,
        genres,
        options.attributes,
        options.secs,
        options.temperature,
        options.guidance,
    )
    titles = [genre or f"new {index:02d}" for index, genre in enumerate(genres)]
    return GeneratedClips("prior", audio, titles, genres, [])


def _vary(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres = _known_genres(generator, sources)
    audio = generator.vary(_stack(sources), options.noise_scale, options.seed, genres)
    return GeneratedClips("variation", audio, _track_ids(sources), genres, sources)


def _reconstruct(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres = _known_genres(generator, sources)
    audio = generator.reconstruct(_stack(sources), genres)
    return GeneratedClips("reconstruct", audio, _track_ids(sources), genres, sources)


def _interpolate(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    start, end = sources[0], sources[-1]
    ends = _known_genres(generator, [start, end])
    audio = generator.interpolate(start.audio, end.audio, options.steps, ends)
    between = range(1, options.steps - 1)
    titles = [f"{100 * step // (options.steps - 1)}%" for step in between]
    genres = [ends[0], *[None for _ in between], ends[1]]
    return GeneratedClips("interpolate", audio, [start.track_id, *titles, end.track_id], genres, [])


def _transfer(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    targets = [options.to_genre or _next_genre(generator, source.genre) for source in sources]
    audio = generator.transfer(_stack(sources), targets, _known_genres(generator, sources), options.guidance)
    titles = [f"{source.track_id} as {target}" for source, target in zip(sources, targets, strict=True)]
    return GeneratedClips("transfer", audio, titles, targets, sources)


def _extend(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres, audio = _known_genres(generator, sources), _stack(sources)
    extended = generator.extend(
        audio[:, : int(audio.shape[1] * CONTINUED_FRACTION)],
        options.secs or audio.shape[1] / generator.sample_rate_hz,
        options.seed,
        genres,
        options.attributes,
        options.temperature,
        options.guidance,
    )
    return GeneratedClips("continue", extended, _track_ids(sources), genres, sources)


_GENERATE = {
    "prior": _sample,
    "variation": _vary,
    "reconstruct": _reconstruct,
    "interpolate": _interpolate,
    "transfer": _transfer,
    "continue": _extend,
}


def _stack(sources: Sequence[SourceClip]) -> np.ndarray:
    return np.stack([source.audio for source in sources])


def _track_ids(sources: Sequence[SourceClip]) -> list[str]:
    return [source.track_id for source in sources]


def _known_genres(generator: Generator, sources: Sequence[SourceClip]) -> list[str | None]:
    """The genres of source clips; None where the model is not conditional or does not know the genre."""
    conditional = generator.model.capabilities.conditional
    return [source.genre if conditional and source.genre in generator.genres else None for source in sources]


def _next_genre(generator: Generator, genre: str) -> str:
    if genre not in generator.genres:
        return generator.genres[0]
    return generator.genres[(generator.genres.index(genre) + 1) % len(generator.genres)]
