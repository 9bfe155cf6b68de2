"""Write a page about a dataset: clips by genre and split, attributes, one clip of each genre, rejected files."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from preprocessing.dataset import example
from preprocessing.dataset.quarantine import HARMLESS_REASONS, REASONS, Rejected
from preprocessing.dataset.splits import SPLITS
from preprocessing.html.media import AudioClip, SpectrogramScale, clip_figure
from preprocessing.html.numbers import format_significant
from preprocessing.html.page import Fact, Gallery, fact_list, render
from preprocessing.validation.contents import DatasetContents

MAX_FILES, MAX_DUPLICATES = 5, 20  # shown of each reason
MAX_CLIP_SECS = 30.0  # of a player: those of ten genres at 3 kHz take half a megabyte
MEASURES = {  # attribute -> name and unit
    "loudness_db": ("loudness", "dB"),
    "centroid_hz": ("brightness", "Hz"),
    "tempo_bpm": ("tempo", "BPM"),
    "beat_clarity": ("clear beat", "%"),
}
SCALES = {"beat_clarity": 100.0}  # of the units above

_EXAMPLES = (
    "One clip of each genre",
    "The training clip of median loudness. Press play, or click a picture to start there. All pictures share "
    "one colour scale, from the loudest clip down by 80 dB.",
)
_WIDTH, _LEFT, _RIGHT, _ROW_HEIGHT = 380, 74, 342, 26  # of a chart, in SVG units
_MAX_LABEL_CHARACTERS = 12
_BINS = 74
_KERNEL = np.exp(-0.5 * (np.arange(-4, 5) / 1.6) ** 2)  # smooths a histogram


@dataclass(frozen=True)
class CountsRow:
    """Clips of one genre, or of all genres if `is_total`."""

    genre: str
    counts: list[int]  # by split
    percents: list[float]  # by split, of the largest genre
    duration: str
    is_total: bool = False


@dataclass(frozen=True)
class RidgeRow:
    """The distribution of one genre's values; `path` is empty where it has none."""

    label: str
    baseline: int
    path: str = ""
    mean_x: float = 0.0
    mean: str = ""


@dataclass(frozen=True)
class RidgeChart:
    """The distributions of one attribute, one row per genre, in SVG units."""

    name: str
    unit: str
    ticks: list[tuple[float, str]]
    rows: list[RidgeRow]
    width: int
    height: int
    row_height: int = _ROW_HEIGHT


@dataclass(frozen=True)
class RejectedGroup:
    """The files that were rejected for one reason; `files` are the first of them."""

    reason: str
    meaning: str
    count: int
    files: list[Rejected]


def write_page(name: str, contents: DatasetContents) -> str:
    """Render the page of a dataset without faults, whose contents have `example_records`.

    Args:
        name: The page's heading.
        contents: The dataset.

    Returns:
        The page's HTML.
    """
    clips = [_example_clip(record) for _, record in sorted(contents.example_records.items())]
    scale = SpectrogramScale.of(clips, contents.manifest.sample_rate_hz / 2)
    charts = (_ridge_chart(contents, attribute) for attribute in MEASURES)
    folder, groups = _rejected_groups(contents)
    return render(
        "preprocessing.validation",
        "dataset.html.jinja",
        title=f"{name}: {len(contents.entries):,} clips",
        facts=_facts(contents),
        splits=SPLITS,
        counts=_counts_rows(contents),
        charts=[chart for chart in charts if chart is not None],
        examples=Gallery(*_EXAMPLES, [clip_figure(clip, scale, lossless=False) for clip in clips]),
        rejected_folder=folder,
        rejected_groups=groups,
        options=contents.manifest.options,
    )


def measured_values(contents: DatasetContents, attribute: str, genre: str | None) -> list[float]:
    """Return the values of one of `MEASURES`, in its unit, of the clips of a genre, or of all."""
    return [SCALES.get(attribute, 1.0) * value for value in contents.attribute_values(attribute, genre)]


def _example_clip(record: example.Record) -> AudioClip:
    samples = min(record.valid_samples, round(MAX_CLIP_SECS * record.sample_rate_hz))
    return AudioClip(record.track_id, record.audio[:samples], record.sample_rate_hz)


def _facts(contents: DatasetContents) -> list[Fact]:
    manifest = contents.manifest
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    secs = manifest.clip_samples / manifest.sample_rate_hz
    return fact_list(
        {
            "Duration": contents.duration(None),
            "Clip": f"{secs:.3g} s at {manifest.sample_rate_hz:,} Hz",
            "Samples per clip": f"{manifest.clip_samples:,}",
            "Shards": f"{len(manifest.shards)}, {megabytes:,.0f} MB",
            "Split rule": str(manifest.options.get("split", "")),
            "Rejected files": f"{len(contents.rejected):,}",
        },
        wide={
            "Keys": contents.keys_summary(),
            "Dataset": contents.folder,
            "Digest": manifest.digest,
            "Verified": contents.verified_summary(),
        },
    )


def _counts_rows(contents: DatasetContents) -> list[CountsRow]:
    genres = contents.manifest.genres
    largest = max(sum(contents.clip_counts(genre)) for genre in genres)
    rows = []
    for genre in genres:
        counts = contents.clip_counts(genre)
        percents = [round(100 * count / largest, 2) for count in counts]
        rows.append(CountsRow(genre, counts, percents, contents.duration(genre)))
    total = CountsRow("all", contents.clip_counts(None), [], contents.duration(None), is_total=True)
    return [*rows, total]


def _ridge_chart(contents: DatasetContents, attribute: str) -> RidgeChart | None:
    """Lay out the distributions of an attribute; None if it was measured for no clip."""
    values = measured_values(contents, attribute, None)
    if not values:
        return None
    margin = 0.06 * (max(values) - min(values)) or 1.0
    low, high = min(values) - margin, max(values) + margin

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT), 1)

    rows = []
    for number, genre in enumerate(contents.manifest.genres, start=1):
        label, baseline = genre[:_MAX_LABEL_CHARACTERS], _ROW_HEIGHT * number
        genre_values = measured_values(contents, attribute, genre)
        if genre_values:
            mean = float(np.mean(genre_values))
            path = _ridge_path(np.array(genre_values), low, high, baseline)
            rows.append(RidgeRow(label, baseline, path, x(mean), format_significant(mean)))
        else:
            rows.append(RidgeRow(label, baseline))
    ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return RidgeChart(
        *MEASURES[attribute],
        ticks=[(x(tick), format_significant(float(tick))) for tick in ticks],
        rows=rows,
        width=_WIDTH,
        height=_ROW_HEIGHT * len(rows),
    )


def _ridge_path(values: np.ndarray, low: float, high: float, baseline: int) -> str:
    """Outline the smoothed histogram of one genre, `[clips]` values, as the path of a closed SVG shape."""
    heights, _ = np.histogram(values, bins=_BINS, range=(low, high))
    heights = np.convolve(heights, _KERNEL, mode="same")
    heights = heights / heights.max() * (_ROW_HEIGHT - 6)
    x = _LEFT + (np.arange(_BINS) + 0.5) / _BINS * (_RIGHT - _LEFT)
    steps = "L".join(f"{left:.1f} {baseline - height:.1f}" for left, height in zip(x, heights, strict=True))
    return f"M{_LEFT} {baseline}L{steps}L{_RIGHT} {baseline}z"


def _rejected_groups(contents: DatasetContents) -> tuple[str, list[RejectedGroup]]:
    """Group rejected files by reason, faulty ones first; file names are relative to the returned folder."""
    by_reason: dict[str, list[Rejected]] = defaultdict(list)
    for rejected in contents.rejected:
        by_reason[rejected.reason].append(rejected)
    folder = _common_folder(contents)
    groups = []
    for reason in sorted(by_reason, key=lambda name: (name in HARMLESS_REASONS, -len(by_reason[name]), name)):
        files = by_reason[reason]
        shown = files[: MAX_DUPLICATES if reason == "duplicate" else MAX_FILES]
        relative = [
            Rejected(file.uri.removeprefix(folder), reason, file.detail.replace(f" {folder}", " "))
            for file in shown
        ]
        groups.append(RejectedGroup(reason, REASONS.get(reason, ""), len(files), relative))
    return folder, groups


def _common_folder(contents: DatasetContents) -> str:
    uris = [entry.source_uri for entry in contents.entries] + [file.uri for file in contents.rejected]
    prefix = os.path.commonprefix(uris)  # noqa: RUF071 (URIs are no paths; a cut-off name is dropped below)
    return prefix[: prefix.rfind("/") + 1]
