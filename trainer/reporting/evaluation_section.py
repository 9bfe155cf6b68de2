"""Read the last evaluation of a run for its report: tables of figures, and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.html.media import data_uri
from preprocessing.html.numbers import format_significant
from trainer.runs.directory import EVALUATION, EVALUATION_JSON

TABLES = {  # key in evaluation.json -> heading and lead
    "reconstruction_quality": (
        "Reconstruction quality",
        "Held-out clips encoded and decoded, by the model and by baselines.",
    ),
    "generation_quality": (
        "Generation quality",
        "Fr\u00e9chet distances to real clips: lower is better. Real held-out clips set the lower bound.",
    ),
    "musical_statistics": (
        "Musical statistics",
        "Distances between the distributions over real training clips and over other clips, in standard deviations "
        "of the real ones: lower is better. Halves of real clips give the distances that chance alone gives; the "
        "oracle, held-out clips encoded and decoded as new clips are, what a perfect prior would give.",
    ),
    "condition_adherence": (
        "Condition adherence",
        "Whether generated clips have the genre, the attributes and the key they are conditioned on: the genre as "
        "classified, the others as measured. Related keys are a fifth apart, relative or parallel; chance pairs the "
        "key of each condition with that of each clip.",
    ),
}
_PICTURES = {  # file -> caption
    "statistics.png": "Musical statistics of real training clips (grey), of the oracle and of new clips",
    "latents.png": "Latents of held-out clips, by genre",
    "spectrograms.png": "Held-out clips (top) and unconditionally generated clips (bottom)",
}


@dataclass(frozen=True)
class Table:
    """Figures by row, models by column."""

    heading: str
    lead: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]  # name and formatted figures


@dataclass(frozen=True)
class Picture:
    """A picture, embedded."""

    caption: str
    uri: str


@dataclass(frozen=True)
class EvaluationSection:
    """The results of an evaluation that a report shows."""

    epoch: int
    split: str
    held_out_clips: int
    generated_clips: int
    tables: list[Table]
    pictures: list[Picture]


def read_evaluation(run: Path) -> EvaluationSection | None:
    """Read the last evaluation, or return None where there was none."""
    folder = run / EVALUATION
    path = folder / EVALUATION_JSON
    if not path.exists():
        return None
    evaluation = json.loads(path.read_text("utf-8"))
    about = evaluation["about"]
    return EvaluationSection(
        epoch=about["epoch"],
        split=about["split"],
        held_out_clips=about["held_out_clips"],
        generated_clips=about["count"],
        tables=[_table(*texts, evaluation[key]) for key, texts in TABLES.items() if evaluation[key]],
        pictures=[
            Picture(caption, data_uri((folder / name).read_bytes(), "image/png"))
            for name, caption in _PICTURES.items()
            if (folder / name).exists()
        ],
    )


def own_figures(table: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return the figures of a table's rows that are of the run itself, and not of what it is compared with.

    Returns:
        Figures by name, by the kind of generated clips: "unconditional", "genres in turn"; empty for other figures.
    """
    figures = {}
    for row in table:
        name = row.get("name", "")
        if name in ("", "reconstruction") or name.startswith("prior, "):
            kind = name.partition(", ")[2]
            figures[kind] = {figure: value for figure, value in row.items() if figure != "name"}
    return figures


def _table(heading: str, lead: str, results: list[dict[str, Any]]) -> Table:
    figures = dict.fromkeys(figure for result in results for figure in result if figure != "name")
    return Table(
        heading,
        lead,
        columns=[result.get("name", "") for result in results],
        rows=[
            (figure.replace("_", " "), [format_significant(result.get(figure)) for result in results])
            for figure in figures
        ],
    )
