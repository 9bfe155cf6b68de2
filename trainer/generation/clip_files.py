"""Write generated clips: WAV files, pictures of them, and `music.json`, which describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from preprocessing.storage.atomic import write_atomically
from trainer.generation.modes import GeneratedClips
from trainer.generation.takes import Recipe
from trainer.reporting import clip_figures, wav
from trainer.runs.directory import MUSIC


def write_clips(
    folder: Path,
    generated: Sequence[GeneratedClips],
    sample_rate_hz: int,
    output_rate_hz: int | None = None,
    recipe: Recipe | None = None,
    pictures: bool = True,
) -> list[str]:
    """Write `<mode>/00.wav` and so on, pictures beside them, and `music.json`; replace the files that it lists.

    Args:
        folder: Created if it is missing.
        generated: The clips of each mode.
        sample_rate_hz: Of the clips.
        output_rate_hz: Of the WAV files; None: that of the clips.
        pictures: Whether to draw the clips of each mode.
        recipe: Is stored in the comment of each WAV file, together with the file's entry in `music.json`.

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
            source = clips.sources[index].name if clips.sources else None
            entry = {"file": name, "mode": clips.mode, "title": title, "genre": genre, "from": source}
            comment = recipe.to_comment(entry) if recipe else ""
            wav.write_wav(folder / name, audio, sample_rate_hz, output_rate_hz, comment)
            entries.append(entry)
        if pictures:
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
    audio = list(clips.audio[shown])
    originals = [source.audio for source in clips.sources[shown]]
    rows = {clips.mode: audio}
    if originals and [*map(len, originals)] == [*map(len, audio)]:
        rows = {"original": originals, **rows}
    longest = max(map(len, audio))
    padded = {
        name: np.stack([np.pad(clip, (0, longest - len(clip))) for clip in row]) for name, row in rows.items()
    }
    clip_figures.draw_pictures(folder, padded, sample_rate_hz, clips.titles[shown], clips.mode)
