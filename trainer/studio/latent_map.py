"""A map of clips: their slowest latents in the plane of the first two principal components."""

from __future__ import annotations

import functools
import io
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from trainer.generation.sources import SourceClip
from trainer.reporting.figures import show_names_as_they_are
from trainer.studio.session import Session

_SIZE_INCHES, _DPI = (9.0, 6.0), 100
_AREA = (0.02, 0.02, 0.78, 0.96)  # of the axes in the figure: left, bottom, width, height
_MARGIN = 0.08  # around the points, as a fraction of their extent


class Nearest(NamedTuple):
    """The clip that is nearest to a place on the map."""

    clip: SourceClip
    offset: np.ndarray  # [latent_dim]: from the clip's latent to the place


class LatentMap:
    """Latents of clips, their plane, and the picture's scale.

    Attributes:
        clips: The clips, at least one.
        picture: RGB image.
    """

    def __init__(self, clips: list[SourceClip], latents: np.ndarray) -> None:
        """Lay out clips by their latents, `[clips, latent_dim]`."""
        self.clips = clips
        centred = latents - latents.mean(axis=0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        self._axes = directions[:2]  # [1 or 2, latent_dim], orthonormal
        plane = centred @ self._axes.T
        self._plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))  # [clips, 2]
        low, high = self._plane.min(axis=0), self._plane.max(axis=0)
        margin = _MARGIN * np.maximum(high - low, 1e-3)
        self._low, self._high = low - margin, high + margin
        self.picture = self._draw()

    def nearest(self, column: int, row: int) -> Nearest:
        """Find the clip nearest to a pixel of the picture."""
        place = self._place(column, row)
        distances = np.linalg.norm((self._plane - place) / (self._high - self._low), axis=1)
        index = int(distances.argmin())
        offset = (place - self._plane[index])[: len(self._axes)] @ self._axes
        return Nearest(self.clips[index], offset.astype(np.float32))

    def pixel(self, index: int) -> tuple[int, int]:
        """Return the pixel, column and row, of a clip."""
        width, height = (round(size * _DPI) for size in _SIZE_INCHES)
        x, y = (self._plane[index] - self._low) / (self._high - self._low)
        left, bottom, area_width, area_height = _AREA
        return round((left + x * area_width) * width), round((1 - bottom - y * area_height) * height)

    def _place(self, column: int, row: int) -> np.ndarray:
        width, height = (size * _DPI for size in _SIZE_INCHES)
        left, bottom, area_width, area_height = _AREA
        x = (column / width - left) / area_width
        y = (1 - row / height - bottom) / area_height
        return self._low + np.clip([x, y], 0, 1) * (self._high - self._low)

    def _draw(self) -> Image.Image:
        genres = [clip.genre or "" for clip in self.clips]
        names = sorted(set(genres))
        colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"]
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI)
        axes = figure.add_axes(_AREA)
        for index, name in enumerate(names):
            points = self._plane[np.array(genres) == name]
            colour = colours(index % colours.N)
            axes.scatter(points[:, 0], points[:, 1], s=46, color=colour, label=name, alpha=0.8, linewidths=0)
        axes.set_xlim(self._low[0], self._high[0])
        axes.set_ylim(self._low[1], self._high[1])
        axes.set_xticks([])
        axes.set_yticks([])
        show_names_as_they_are(axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)))
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return Image.open(file).convert("RGB")


@functools.cache
def map_of(session: Session) -> LatentMap:
    """Encode clips of the session's dataset, or its test clips, once."""
    generator, clips = session.generator, session.map_clips()
    genres = [clip.genre if clip.genre in generator.genres else None for clip in clips]
    known = genres if generator.model.capabilities.conditional else None
    with session.model_lock:
        latents = generator.encode(np.stack([clip.audio for clip in clips]), known)
    slowest = np.asarray(generator.model.level_values(latents)[generator.model.levels[0]])
    return LatentMap(clips, slowest)


def clip_at(session: Session, nearest: Nearest) -> np.ndarray:
    """Move the nearest clip's slowest latent to the place on the map, and decode; `[samples]`."""
    generator, clip = session.generator, nearest.clip
    genre = (
        clip.genre if generator.model.capabilities.conditional and clip.genre in generator.genres else None
    )
    with session.model_lock:
        latents = generator.encode(clip.audio[np.newaxis], genre)
        moved = generator.model.move(latents, nearest.offset)
        decoded: np.ndarray = generator.decode(moved, genre, secs=len(clip.audio) / generator.sample_rate_hz)
    return decoded[0]
