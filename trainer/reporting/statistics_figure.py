"""Draw the distributions of musical statistics as small multiples, one panel per statistic."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainer.reporting.figures import render_png

COLUMNS = 3
BINS = 20
COLOURS = ("#a0aec0", "#2b6cb0", "#c05621")  # of the first set, which is filled, and of the others
UNITS = {"db": "dB", "secs": "s"}  # suffix of a statistic's name -> unit


def draw_statistics(path: Path, sets: dict[str, np.ndarray], names: list[str]) -> None:
    """Draw a histogram of every statistic, with the sets of clips on top of each other, as a PNG file.

    Args:
        path: The file, in a folder that exists.
        sets: Label -> `[clips, statistics]`; the first set is filled, up to two others are outlined.
        names: Of the statistics, in their order.
    """
    lines = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(12, 0.6 + 2.2 * lines), dpi=100, layout="constrained")
    grid = list(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for index, (axes, name) in enumerate(zip(grid, names, strict=False)):
        _draw_panel(axes, {label: values[:, index] for label, values in sets.items()})
        axes.set_title(_title(name), fontsize=11)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(sets), frameon=False, fontsize=12)
    path.write_bytes(render_png(figure))


def _draw_panel(axes: Axes, sets: dict[str, np.ndarray]) -> None:
    """Draw histograms of equal area, from the 1st to the 99th percentile of all values."""
    known = {label: values[np.isfinite(values)] for label, values in sets.items()}
    values = np.concatenate(list(known.values()))
    low, high = np.percentile(values, [1, 99]) if len(values) else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    for (label, part), colour in zip(known.items(), COLOURS, strict=False):
        first = colour == COLOURS[0]
        density = np.histogram(np.clip(part, low, high), edges)[0] / max(len(part), 1)
        axes.stairs(density, edges, fill=first, color=colour, linewidth=2, label=label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.yaxis.set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=9)


def _title(name: str) -> str:
    """`loudness_range_db` -> "Loudness range (dB)"."""
    *words, last = name.split("_")
    text = " ".join(words) if last in UNITS else name.replace("_", " ")
    return text.capitalize() + (f" ({UNITS[last]})" if last in UNITS else "")
