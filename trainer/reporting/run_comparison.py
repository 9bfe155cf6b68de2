"""Compare runs by their files: metrics, evaluation figures, and the settings in which they differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError
from preprocessing.event_log import without_nan
from preprocessing.html.numbers import format_duration, format_number, format_significant
from trainer.reporting.evaluation_section import TABLES, own_figures
from trainer.run_config import PROVENANCE_FIELDS, UNKNOWN_PROGRAM
from trainer.runs.directory import EVALUATION, EVALUATION_JSON, PROMOTION
from trainer.runs.discovery import FoundRun, find_runs
from trainer.runs.metrics import Row, best_epoch, read_metrics
from trainer.runs.storage import StorageFolder

MISSING = "\N{EM DASH}"

_LAST_METRICS = {  # key in metrics.jsonl -> name and decimal places
    "test_elbo": ("test ELBO, nats per clip", 0),
    "test_log_likelihood": ("test log-likelihood, nats per clip", 0),
    "test_kl": ("test KL divergence, nats per clip", 0),
    "test_snr_db": ("test SNR, dB", 2),
    "clips_per_sec": ("throughput, clips per second", 1),
}
_ABOUT = {  # key of an evaluation's circumstances -> name
    "epoch": "after epoch",
    "split": "split",
    "held_out_clips": "held-out clips",
    "count": "generated clips",
}
_CONDITIONS = ("data", "seed", "temperature", "guidance")  # further ones, shown where they differ
# The figures of the musical statistics that are shown, besides all figures of the other tables.
_STATISTICS = ("mean_distance",)


@dataclass(frozen=True)
class ComparedRun:
    """The files of a run that are compared."""

    label: str  # the end of its URI by which it differs from the others
    uri: str
    is_champion: bool
    config: dict[str, Any]  # content of `config.json`
    epochs: list[Row]  # in order; empty before the first epoch has ended
    evaluation: dict[str, Any]  # content of `evaluation.json`, empty if it was not evaluated
    promotion: dict[str, Any]  # content of `promotion.json`, empty if it is no candidate that was evaluated

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings, its program and what it was trained on, by names that a reader can tell apart."""
        dataset = self.config.get("dataset", {})
        settings = {name: value for name, value in self.config.items() if name not in PROVENANCE_FIELDS}
        clips = {split: sum(counts.values()) for split, counts in dataset.get("counts", {}).items()}
        return {
            **settings,
            "program": self.config.get("program", UNKNOWN_PROGRAM),
            "dataset": dataset.get("uri"),
            "dataset digest": dataset.get("digest", "")[:12],
            "dataset sample_rate_hz": dataset.get("sample_rate_hz"),
            "dataset genres": ", ".join(dataset.get("genres", [])),
            "dataset clips": ", ".join(f"{count:,} {split}" for split, count in clips.items()),
            "ancestor datasets": ", ".join(name[:12] for name in self.config.get("ancestor_datasets", [])),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything that is known of the run; NaN and infinity become null."""
        fields = {
            "run": self.uri,
            "is_champion": self.is_champion,
            "config": self.config,
            "epochs": self.epochs,
            "evaluation": self.evaluation,
            "promotion": self.promotion,
        }
        return without_nan(fields)


@dataclass(frozen=True)
class Section:
    """Rows of formatted values, one for each run."""

    heading: str
    rows: list[tuple[str, list[str]]]


def read_runs(folders: list[str]) -> list[ComparedRun]:
    """Read the runs of some folders, each of which is a run, a folder of models or a folder of runs.

    Raises:
        CommandError: A folder has no run, or a file of a run is corrupt (3), or storage failed (4).
    """
    found = find_runs(folders)
    labels = _labels([run.uri for run in found])
    return [_read_run(run, label) for run, label in zip(found, labels, strict=True)]


def compare(runs: list[ComparedRun]) -> list[Section]:
    """Compare runs in sections; a section without rows is left out."""
    sections = [
        Section("After the last epoch", _training_rows(runs)),
        Section("Configuration, where it differs", list(_differences(runs).items())),
        *_evaluation_sections(runs),
        Section("Promotion decision, on the candidate's test clips", _promotion_rows(runs)),
    ]
    return [section for section in sections if section.rows]


def comparison_table(runs: list[ComparedRun]) -> str:
    """Format the comparison as text, a column for each run."""
    sections = compare(runs)
    heads = [f"{run.label}{' *' if run.is_champion else ''}" for run in runs]
    rows = [("", heads), *(row for section in sections for row in section.rows)]
    widths = [max(len(cells[index]) for _, cells in rows) for index in range(len(runs))]
    first = max(len(name) for name, _ in rows)
    lines = [_text_line("", heads, first, widths)]
    for section in sections:
        lines += ["", section.heading]
        lines += [_text_line(name, cells, first, widths) for name, cells in section.rows]
    if any(run.is_champion for run in runs):
        lines += ["", "* the champion"]
    return "\n".join(lines)


def comparison_json(runs: list[ComparedRun]) -> dict[str, Any]:
    """Return the runs, and the settings in which they differ, as values of JSON."""
    differing = _differing_settings(runs)
    return {
        "runs": [run.to_json() for run in runs],
        "differences": {name: [run.settings.get(name) for run in runs] for name in differing},
    }


def _text_line(name: str, cells: list[str], first: int, widths: list[int]) -> str:
    return "  ".join([name.ljust(first), *map(str.rjust, cells, widths)]).rstrip()


def _read_run(found: FoundRun, label: str) -> ComparedRun:
    files = StorageFolder(found.uri)

    def read(name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(files.read(name) or b"{}"))
        except (ValueError, TypeError) as error:
            raise DataError(f"{found.uri}/{name} is corrupt ({error}): restore or delete it") from error

    return ComparedRun(
        label=label,
        uri=found.uri,
        is_champion=found.is_champion,
        config=read(CONFIG_NAME),
        epochs=read_metrics(found.uri),
        evaluation=read(f"{EVALUATION}/{EVALUATION_JSON}"),
        promotion=read(PROMOTION),
    )


def _labels(uris: list[str]) -> list[str]:
    """Return the shortest ends of the URIs, in whole folder names, that differ from one another."""
    parts = [uri.rstrip("/").split("/") for uri in uris]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(each[-length:]) for each in parts]
        if len(set(labels)) == len(labels):
            return labels
    return uris


def _training_rows(runs: list[ComparedRun]) -> list[tuple[str, list[str]]]:
    def row(name: str, describe: Any) -> tuple[str, list[str]]:
        return name, [describe(run) if run.epochs else MISSING for run in runs]

    def last(key: str, places: int) -> Any:
        return lambda run: format_number(run.epochs[-1].get(key), places)

    return [
        ("program", [run.config.get("program", UNKNOWN_PROGRAM) for run in runs]),
        ("epochs", [f"{len(run.epochs)} of {run.config.get('epochs', MISSING)}" for run in runs]),
        row(
            "training time",
            lambda run: format_duration(sum(epoch.get("epoch_secs", 0) for epoch in run.epochs)),
        ),
        *(row(name, last(key, places)) for key, (name, places) in _LAST_METRICS.items()),
        row("test ELBO of the best epoch", _describe_best),
    ]


def _describe_best(run: ComparedRun) -> str:
    best = best_epoch(run.epochs)
    return f"{format_number(best['test_elbo'], 0)} in epoch {best['epoch']}" if best else MISSING


def _evaluation_sections(runs: list[ComparedRun]) -> list[Section]:
    if not any(run.evaluation for run in runs):
        return []
    abouts = [run.evaluation.get("about", {}) for run in runs]
    known = [about for about in abouts if about]
    differing = [name for name in _CONDITIONS if len({str(about.get(name)) for about in known}) > 1]
    about_rows = [
        (title, [str(about.get(name, MISSING)) for about in abouts])
        for name, title in {**_ABOUT, **{name: name for name in differing}}.items()
    ]
    sections = [Section("Evaluation", about_rows)]
    for key, (heading, _) in TABLES.items():
        by_run = [_own_figures(key, run.evaluation.get(key, [])) for run in runs]
        names = dict.fromkeys(name for figures in by_run for name in figures)
        rows = [(name, [format_significant(figures.get(name)) for figures in by_run]) for name in names]
        sections.append(Section(heading, rows))
    return sections


def _own_figures(key: str, table: list[dict[str, Any]]) -> dict[str, float | None]:
    return {
        f"{kind}: {name}".removeprefix(": ").replace("_", " "): value
        for kind, figures in own_figures(table).items()
        for name, value in figures.items()
        if key != "musical_statistics" or name in _STATISTICS
    }


def _promotion_rows(runs: list[ComparedRun]) -> list[tuple[str, list[str]]]:
    if not any(run.promotion for run in runs):
        return []
    figures = [run.promotion["sets"][0]["candidate"] if run.promotion else {} for run in runs]
    names = dict.fromkeys(name for each in figures for name in each)
    return [
        ("decision", [run.promotion.get("decision", MISSING) for run in runs]),
        *(
            (name.replace("_", " "), [format_significant(each.get(name)) for each in figures])
            for name in names
        ),
    ]


def _differing_settings(runs: list[ComparedRun]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [name for name in names if len({json.dumps(run.settings.get(name)) for run in runs}) > 1]


def _differences(runs: list[ComparedRun]) -> dict[str, list[str]]:
    def describe(value: Any) -> str:
        return MISSING if value in (None, "") else str(value)

    return {name: [describe(run.settings.get(name)) for run in runs] for name in _differing_settings(runs)}
