"""Render the comparison of runs as a page: learning curves, tables, and clips of all runs side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from preprocessing.errors import UsageError
from preprocessing.html.media import AudioClip, ClipFigure, SpectrogramScale, clip_figure
from preprocessing.html.numbers import format_number
from preprocessing.html.page import is_own_page, render
from preprocessing.storage.atomic import write_atomically
from trainer.config import MODES
from trainer.reporting.charts import run_charts
from trainer.reporting.report import MODE_TEXTS
from trainer.reporting.run_comparison import ComparedRun, compare
from trainer.reporting.run_results import RunResults, read_results
from trainer.runs.directory import fetch_results
from trainer.runs.storage import GcsPrefix, StorageFolder, is_remote

COLORS = 8  # that the page's style has for curves; further runs repeat them in dashes
CLIPS_PER_MODE = 2
ORIGINAL = "Original"


@dataclass(frozen=True)
class RunHead:
    """A run in the list of runs."""

    label: str
    css_class: str
    uri: str
    is_champion: bool
    remark: str  # why it has no clips; empty if it has some


class Cell(NamedTuple):
    """A clip of a row, or None where a run has no such clip."""

    column: str
    figure: ClipFigure | None


@dataclass(frozen=True)
class ClipRow:
    """Clips of one kind, a cell for each run."""

    title: str
    remark: str
    cells: list[Cell]


@dataclass(frozen=True)
class ClipSection:
    """Rows of clips below a heading."""

    heading: str
    lead: str
    rows: list[ClipRow]


def write_page(runs: list[ComparedRun], target: str) -> None:
    """Write the page.

    Args:
        runs: At least one.
        target: The file, local or `gs://`. It may exist if it is a page of this program.

    Raises:
        CommandError: The file is not a page of this program (exit code 2), or storage failed (4).
    """
    folder, name = _split(target)
    content = StorageFolder(folder).read(name)
    if content is not None and not is_own_page(content):
        raise UsageError(
            f"`html`: {target} is not a page of this program: move it away, or choose another place"
        )
    page = _render(runs)
    if is_remote(target):
        GcsPrefix(folder).write(name, page.encode())
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(target), page)


def _split(target: str) -> tuple[str, str]:
    """Divide a file's name from its folder."""
    folder, _, name = target.rpartition("/")
    if not name or (not is_remote(target) and Path(target).is_dir()):
        raise UsageError(f"`html` must name a file, not the folder {target}")
    return folder or ("/" if target.startswith("/") else "."), name


def _render(runs: list[ComparedRun]) -> str:
    results, remarks = _read_clips(runs)
    classes = {
        run.label: f"run-{index % COLORS}{' dashed' if index >= COLORS else ''}"
        for index, run in enumerate(runs)
    }
    scale = _scale(results.values())
    return render(
        "trainer.reporting",
        "run_comparison.html.jinja",
        title=f"{len(runs)} runs compared" if len(runs) > 1 else runs[0].label,
        runs=[
            RunHead(run.label, classes[run.label], run.uri, run.is_champion, remarks.get(run.label, ""))
            for run in runs
        ],
        charts_of_runs=run_charts({run.label: (classes[run.label], run.epochs) for run in runs}),
        tables=compare(runs),
        sections=_clip_sections(runs, results, scale) if scale else [],
    )


def _read_clips(runs: list[ComparedRun]) -> tuple[dict[str, RunResults], dict[str, str]]:
    """Read the clips of each run, and why a run has none, by the runs' labels."""
    results, remarks = {}, {}
    for run in tqdm(runs, desc="reading clips", unit=" runs", leave=False):
        with tempfile.TemporaryDirectory() as temporary:
            try:
                results[run.label] = read_results(fetch_results(run.uri, Path(temporary)))
            except FileNotFoundError:
                remarks[run.label] = "no clips: it has not finished an epoch, or its samples were deleted"
    return results, remarks


def _scale(results: Iterable[RunResults]) -> SpectrogramScale | None:
    """Return one scale for all pictures, up to the highest frequency that all runs have; None without clips."""
    results = list(results)
    if not results:
        return None
    originals = [clip.original for each in results for clip in each.reconstructions]
    rates_hz = [
        *(original.sample_rate_hz for original in originals),
        *(rate for each in results if (rate := each.setting("sample_rate_hz"))),
    ]
    return SpectrogramScale.of(originals, min(rates_hz) / 2)


def _clip_sections(
    runs: list[ComparedRun], results: dict[str, RunResults], scale: SpectrogramScale
) -> list[ClipSection]:
    labels = [run.label for run in runs]
    reconstructions = ClipSection(
        "Reconstructions of held-out clips",
        "By the model of each run's last epoch, beside the original. All pictures of the page share one colour scale.",
        _reconstruction_rows(labels, results, scale),
    )
    modes = [
        ClipSection(*MODE_TEXTS[mode], _generated_rows(mode, labels, results, scale))
        for mode in tqdm(MODES, desc="drawing clips", unit=" modes", leave=False)
    ]
    return [section for section in (reconstructions, *modes) if section.rows]


def _reconstruction_rows(
    labels: list[str], results: dict[str, RunResults], scale: SpectrogramScale
) -> list[ClipRow]:
    """Return a row for each test clip that any run has reconstructed: the original, then each run."""
    by_run = {
        label: {clip.track_id: clip for clip in each.reconstructions} for label, each in results.items()
    }
    tracks = {track: clip for clips in reversed(by_run.values()) for track, clip in clips.items()}
    ordered = dict.fromkeys(track for clips in by_run.values() for track in clips)
    rows = []
    for track in tqdm(ordered, desc="drawing clips", unit=" clips", leave=False):
        cells = [_cell(ORIGINAL, tracks[track].original, ORIGINAL, scale)]
        for label in labels:
            clip = by_run.get(label, {}).get(track)
            caption = f"{label}, {format_number(clip.snr_db())} dB" if clip else label
            cells.append(_cell(label, clip.reconstruction if clip else None, caption, scale))
        rows.append(ClipRow(track, tracks[track].genre, cells))
    return rows


def _generated_rows(
    mode: str, labels: list[str], results: dict[str, RunResults], scale: SpectrogramScale
) -> list[ClipRow]:
    """Return rows for some of the clips that the runs have generated in a mode, by their order."""
    by_run = {label: each.generated.get(mode, []) for label, each in results.items()}
    count = max(map(len, by_run.values()))
    chosen = sorted({index * count // CLIPS_PER_MODE for index in range(min(CLIPS_PER_MODE, count))})
    rows = []
    for index in chosen:
        clips = {label: clips[index] for label, clips in by_run.items() if index < len(clips)}
        captions = {label: clip.caption for label, clip in clips.items()}
        is_same = len(set(captions.values())) == 1
        cells = [
            _cell(label, clips.get(label), label if is_same else f"{label}: {captions.get(label)}", scale)
            for label in labels
        ]
        rows.append(ClipRow(next(iter(captions.values())) if is_same else f"Clip {index + 1}", "", cells))
    return rows


def _cell(label: str, clip: AudioClip | None, caption: str, scale: SpectrogramScale) -> Cell:
    return Cell(label, clip_figure(replace(clip, caption=caption), scale) if clip else None)
