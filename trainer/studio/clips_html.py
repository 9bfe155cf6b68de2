"""Clips as HTML: a picture, a player, a link to the file, and a take's recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from preprocessing.errors import DataError
from preprocessing.html.media import AudioClip, ClipFigure, SpectrogramScale, clip_figure, data_uri
from preprocessing.html.page import render
from trainer.reporting.wav import read_wav
from trainer.studio.session import Session


@dataclass(frozen=True)
class ShownClip:
    """A clip on the page."""

    figure: ClipFigure
    download_uri: str = ""  # empty: cannot be downloaded
    file_name: str = ""


def take_html(session: Session, take: str) -> str:
    """Show the clips and the recipe of a take.

    Clips are part of the page: the server gives out no files of the folder, which may have others.

    Raises:
        CommandError: The take or one of its clips is gone (exit code 3).
    """
    folder = (session.options.output / take).resolve()
    entries = session.entries(take)
    rate_hz = session.generator.sample_rate_hz
    clips = [_read_clip(folder / entry["file"], _caption(entry)) for entry in entries]
    scale = SpectrogramScale.of(clips, min(rate_hz, clips[0].sample_rate_hz) / 2)
    shown = [
        ShownClip(
            clip_figure(clip, scale),
            data_uri((folder / entry["file"]).read_bytes(), "audio/wav"),
            f"{take}-{Path(entry['file']).name}",
        )
        for clip, entry in zip(clips, entries, strict=True)
    ]
    return _render(take, shown, session.recipe(take))


def clips_html(clips: Mapping[str, np.ndarray], sample_rate_hz: int, heading: str = "") -> str:
    """Show clips, caption -> `[samples]` float32 in [-1, 1], that are in no take."""
    audio = [AudioClip(caption, clip, sample_rate_hz) for caption, clip in clips.items()]
    scale = SpectrogramScale.of(audio, sample_rate_hz / 2)
    return _render(heading, [ShownClip(clip_figure(clip, scale)) for clip in audio], None)


def _render(heading: str, clips: Sequence[ShownClip], recipe: dict[str, Any] | None) -> str:
    return render("trainer.studio", "clips.html.jinja", heading=heading, clips=clips, recipe=recipe)


def _caption(entry: dict[str, Any]) -> str:
    parts = [entry["title"], entry["genre"] if entry["genre"] not in (None, entry["title"]) else ""]
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def _read_clip(path: Path, caption: str) -> AudioClip:
    try:
        return AudioClip(caption, read_wav(path), soundfile.info(path).samplerate)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path} is missing or corrupt ({error})") from error
