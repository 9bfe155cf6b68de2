"""Draw waveforms, spectrograms and latents as PNG files, and training progress as an animated GIF.

This module needs neither TensorFlow nor pyplot's global state. NaN values of a diverged model are drawn as silence,
so that a failed training has pictures, too.
"""

from __future__ import annotations

import io
import math
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from librosa.display import specshow
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from preprocessing.html.media import SPECTROGRAM_RANGE_DB

PICTURE_WIDTH_PX = 1440
GIF_WIDTH_PX = 960
GIF_MAX_FRAMES = 32  # about 6 MB of spectrograms, little enough to embed in a page
GIF_LAST_FRAME_SECS = 2.0
GIF_COLOURS = 48
ROW_COLOURS = ("#4a5568", "#2b6cb0", "#c05621")

_DPI = 100
_TOP_PX, _ROW_PX, _BOTTOM_PX = 76, 200, 36
_TITLE_CHARACTER_PX = 9.5  # an average one
_LABEL_PX, _LEFT_PX, _RIGHT_PX, _COLOUR_BAR_PX = 14, 106, 20, 90
_WAVEFORM_POINTS = 400  # about one per pixel of a column
_SPECTROGRAM_COLUMNS = 320


def draw_waveforms(
    path: Path, rows: dict[str, np.ndarray], sample_rate_hz: int, titles: list[str], heading: str
) -> None:
    """Draw a grid of waveforms, one row per entry of `rows`, as a PNG file.

    Args:
        path: The file, in a folder that exists.
        rows: Label -> clips, `[clips, samples]` float in [-1, 1], from the top row down.
        sample_rate_hz: The rate of every clip.
        titles: One per column, written above the first row.
        heading: The title of the whole picture.
    """
    figure, grid = _grid(rows, titles, heading, right_px=_RIGHT_PX)
    for clips, colour, axes_row in zip(rows.values(), cycle(ROW_COLOURS), grid):
        for clip, axes in zip(clips, axes_row, strict=True):
            _draw_waveform(axes, clip, sample_rate_hz, colour)
            axes.set_ylim(-1, 1)
    originals = next(iter(rows.values()))
    _hide_inner_ticks(grid, clip_secs=originals.shape[1] / sample_rate_hz)
    path.write_bytes(render_png(figure))


def draw_spectrograms(
    path: Path,
    rows: dict[str, np.ndarray],
    sample_rate_hz: int,
    hop_secs: float,
    mel_hz: np.ndarray,
    titles: list[str],
    heading: str,
) -> None:
    """Draw a grid of log-mel spectrograms, one row per entry of `rows`, as a PNG file.

    All spectrograms share one colour scale, from the loudest cell of the first row (the originals) down by
    80 dB, so that a reconstruction that is too quiet or too loud is visible as such.

    Args:
        path: The file, in a folder that exists.
        rows: Label -> log-mel spectrograms, `[clips, frames, bands]` float in dB, from the top row down.
        sample_rate_hz: The rate of the clips; the frequency axis ends at its half.
        hop_secs: The time from one frame to the next.
        mel_hz: `[bands]` float, the centre of each mel band in Hz, ascending.
        titles: One per column, written above the first row.
        heading: The title of the whole picture.
    """
    figure, grid = _grid(rows, titles, heading, right_px=_COLOUR_BAR_PX)
    originals = next(iter(rows.values()))
    top_db = _loudest_db(originals)
    for spectrograms, axes_row in zip(rows.values(), grid, strict=True):
        for spectrogram, axes in zip(spectrograms, axes_row, strict=True):
            mesh = _draw_spectrogram(axes, spectrogram, hop_secs, mel_hz, top_db)
            axes.set_ylim(0, sample_rate_hz / 2)
            axes.yaxis.set_major_formatter(EngFormatter("Hz"))
    _hide_inner_ticks(grid, clip_secs=originals.shape[1] * hop_secs)
    _draw_colour_bar(figure, mesh, beside=grid[:, -1])
    path.write_bytes(render_png(figure))


def draw_latents(path: Path, latents: np.ndarray, genres: list[str]) -> None:
    """Draw latents of clips in the plane of their first two principal components, coloured by genre.

    Args:
        path: The file, in a folder that exists.
        latents: `[clips, dim]` float.
        genres: One per clip.
    """
    centred = np.nan_to_num(latents - latents.mean(axis=0))
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ directions[:2].T
    share = sizes[:2] ** 2 / max(float(np.sum(sizes**2)), 1e-12)
    figure = Figure(figsize=(9, 6), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["tab10" if len(set(genres)) <= 10 else "tab20"]
    for index, genre in enumerate(sorted(set(genres))):
        points = plane[np.array(genres) == genre]
        y = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))  # a single latent value: a line
        colour = colours(index % colours.N)
        axes.scatter(points[:, 0], y, s=36, color=colour, label=genre, alpha=0.8, linewidths=0)
    axes.set_xlabel(f"first principal component, {share[0]:.0%} of the variance")
    if len(share) > 1:
        axes.set_ylabel(f"second principal component, {share[1]:.0%}")
    legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    show_names_as_they_are(legend)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Latents of held-out clips")
    path.write_bytes(render_png(figure))


def write_training_gif(path: Path, frames: list[Path], frame_secs: float = 0.5) -> None:
    """Join pictures of one size into an animated GIF that loops and pauses on its last frame.

    Args:
        path: The file, in a folder that exists.
        frames: The pictures' files in order, at least one; more than 32 are thinned evenly, keeping the first
            and the last.
        frame_secs: How long each frame is shown; the last is shown for 2 seconds.

    Raises:
        ValueError: There are no frames.
    """
    if not frames:
        raise ValueError(f"{path}: a GIF needs at least one picture")
    count = min(len(frames), GIF_MAX_FRAMES)
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    pictures = [_gif_frame(frames[index]) for index in chosen]
    durations_ms = [round(frame_secs * 1000)] * (len(pictures) - 1) + [round(GIF_LAST_FRAME_SECS * 1000)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0)


def _gif_frame(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        width, height = picture.size
        scale = min(1.0, GIF_WIDTH_PX / width)
        small = picture.convert("RGB").resize(
            (round(width * scale), round(height * scale)), Image.Resampling.BOX
        )
    return small.quantize(GIF_COLOURS, dither=Image.Dither.NONE)  # dithering doubles the file's size


def _grid(
    rows: dict[str, np.ndarray], titles: list[str], heading: str, right_px: int
) -> tuple[Figure, np.ndarray]:
    """Create a figure with its heading, column titles and row labels, and its empty axes [rows, columns]."""
    height_px = _TOP_PX + _ROW_PX * len(rows) + _BOTTOM_PX
    figure = Figure(figsize=(PICTURE_WIDTH_PX / _DPI, height_px / _DPI), dpi=_DPI)
    margins = {
        "left": _LEFT_PX / PICTURE_WIDTH_PX,
        "right": 1 - right_px / PICTURE_WIDTH_PX,
        "top": 1 - _TOP_PX / height_px,
        "bottom": _BOTTOM_PX / height_px,
    }
    grid = figure.subplots(
        len(rows), len(titles), squeeze=False, gridspec_kw={**margins, "wspace": 0.03, "hspace": 0.1}
    )
    bold: dict[str, Any] = {"fontweight": "bold", "va": "center"}
    figure.text(_LABEL_PX / PICTURE_WIDTH_PX, 1 - 26 / height_px, heading, fontsize=15, **bold)
    characters = int((PICTURE_WIDTH_PX - _LEFT_PX - right_px) / len(titles) / _TITLE_CHARACTER_PX)
    for axes, title in zip(grid[0], titles, strict=True):
        shown = title if len(title) <= characters else f"\N{HORIZONTAL ELLIPSIS}{title[1 - characters :]}"
        axes.set_title(shown, fontsize=11, parse_math=False)  # names may have dollar signs
    for label, axes_row in zip(rows, grid, strict=True):
        box = axes_row[0].get_position()
        x, y = _LABEL_PX / PICTURE_WIDTH_PX, (box.y0 + box.y1) / 2
        figure.text(x, y, label, rotation=90, fontsize=13, **bold)
    return figure, grid


def _hide_inner_ticks(grid: np.ndarray, clip_secs: float) -> None:
    """Show ticks on the outer axes only: inner ticks are redundant and take half of the drawing time."""
    for (row, column), axes in np.ndenumerate(grid):
        axes.set_xlim(0, clip_secs)
        axes.xaxis.set_major_locator(MaxNLocator(5, prune="upper"))
        axes.xaxis.set_major_formatter("{x:g} s")
        axes.xaxis.set_visible(row == len(grid) - 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_visible(column == 0)
        axes.set(xlabel="", ylabel="")
        axes.tick_params(labelsize=9)


def _draw_waveform(axes: Axes, clip: np.ndarray, sample_rate_hz: int, colour: str) -> None:
    """Fill between the lowest and the highest sample of each span.

    librosa's `waveshow` takes three times as long, and mirrors the larger of the two about zero.
    """
    hop = max(1, len(clip) // _WAVEFORM_POINTS)
    spans = clip[: len(clip) // hop * hop].reshape(-1, hop)
    secs = np.arange(len(spans)) * hop / sample_rate_hz
    axes.fill_between(secs, spans.min(axis=1), spans.max(axis=1), color=colour, linewidth=0.6)


def _draw_spectrogram(
    axes: Axes, spectrogram: np.ndarray, hop_secs: float, mel_hz: np.ndarray, top_db: float
) -> QuadMesh:
    """Draw one spectrogram [frames, bands] in dB, averaging frames that would be narrower than a pixel."""
    factor = math.ceil(len(spectrogram) / _SPECTROGRAM_COLUMNS)
    whole = spectrogram[: len(spectrogram) // factor * factor]
    columns = whole.reshape(-1, factor, len(mel_hz)).mean(axis=1)
    floor_db = top_db - SPECTROGRAM_RANGE_DB
    return specshow(
        np.nan_to_num(columns, nan=floor_db).T,
        x_coords=(np.arange(len(columns)) + 0.5) * factor * hop_secs,
        y_coords=mel_hz,
        x_axis="s",
        y_axis="mel",
        cmap="magma",
        vmin=floor_db,
        vmax=top_db,
        ax=axes,
    )


def _draw_colour_bar(figure: Figure, mesh: QuadMesh, beside: np.ndarray) -> None:
    top, bottom = beside[0].get_position(), beside[-1].get_position()
    axes = figure.add_axes((top.x1 + 0.01, bottom.y0, 0.01, top.y1 - bottom.y0))
    figure.colorbar(mesh, cax=axes, format="{x:g} dB")
    axes.tick_params(labelsize=9)


def _loudest_db(spectrograms: np.ndarray) -> float:
    finite = spectrograms[np.isfinite(spectrograms)]
    return float(finite.max()) if finite.size else 0.0


def show_names_as_they_are(legend: Legend) -> None:
    """Let dollar signs in the names of a legend be no formulas."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def render_png(figure: Figure) -> bytes:
    """Render a figure as a PNG file; a palette of 256 colours makes it a third of the size."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    file = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(file, format="PNG")
    return file.getvalue()
