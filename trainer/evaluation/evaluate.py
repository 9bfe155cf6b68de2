"""The command `evaluate`: tables as JSON and Markdown, figures, and a section of the report."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from preprocessing.errors import UsageError
from preprocessing.progress import Progress
from trainer.conditioning import Condition
from trainer.config import GUIDANCE, UNCONDITIONAL_GUIDANCE
from trainer.data.fetch import open_dataset
from trainer.evaluation import compared_clips, musical_distances
from trainer.evaluation.clip_sets import ClipSet, read_clip_set
from trainer.evaluation.compared_clips import SamplingSettings
from trainer.evaluation.embeddings import LOG_MEL, make_embedding
from trainer.evaluation.evaluator import Evaluator, Row
from trainer.evaluation.options import Options
from trainer.evaluation.reference_run import load_reference
from trainer.generation import batches
from trainer.generation.generator import Generator
from trainer.generation.load import load
from trainer.presets import BASELINE_PRESET
from trainer.reporting import clip_figures, figures, report, statistics_figure
from trainer.reporting.evaluation_section import TABLES, own_figures
from trainer.runs.champion_pointer import resolve
from trainer.runs.checkpoints import epoch_of
from trainer.runs.directory import (
    EVALUATION,
    EVALUATION_JSON,
    EVALUATION_MARKDOWN,
    EVENTS,
    METRICS,
    SAMPLE_CLIPS,
)
from trainer.runs.storage import GcsPrefix, StorageFolder, is_remote
from trainer.training import tracking

LATENTS_PNG, STATISTICS_PNG = "latents.png", "statistics.png"
PICTURES = (LATENTS_PNG, STATISTICS_PNG, *(f"{name}.png" for name in clip_figures.PICTURES))
OUTPUT_FILES = (EVALUATION_JSON, EVALUATION_MARKDOWN, *PICTURES)

Stage = TypeVar("Stage")


class Results(NamedTuple):
    """What an evaluation found."""

    tables: dict[str, list[Row]]  # by name, a row per model or baseline
    clips: dict[str, np.ndarray]  # the compared clips by name, `[clips, samples]` each
    statistics: dict[str, np.ndarray]  # the musical statistics of "real" and compared clips


def evaluate(run: str, data: str, output: str | None, cache: Path, options: Options) -> str:
    """Evaluate a run and its baselines on held-out clips, and return the path of the Markdown tables.

    Raises:
        CommandError: The dataset has another format or an embedding is unknown (exit code 2), there is no run
            or no data (3), or storage failed (4).
    """
    output = output or f"{run.rstrip('/')}/{EVALUATION}"
    _check_output(output)
    embeddings = [make_embedding(name) for name in dict.fromkeys((LOG_MEL, *options.embeddings))]
    generator = load(run, options.checkpoint, cache)
    source, manifest = open_dataset(data, cache)
    with source:
        train, held_out = (
            read_clip_set(generator, source, manifest, split) for split in ("train", options.split)
        )
    baseline = load_reference(run, generator, data, options, cache)
    evaluator = Evaluator(train, held_out, embeddings, generator.sample_rate_hz, options.seed)
    results = _evaluate_all(evaluator, generator, baseline, options)
    tables: dict[str, Any] = {**results.tables}
    tables["about"] = {
        "run": run,
        "data": data,
        "split": options.split,
        "training_clips": len(train.audio),
        "held_out_clips": len(held_out.audio),
        "checkpoint": generator.checkpoint,
        "epoch": epoch_of(generator.path, generator.checkpoint),
        "caveat": f"Preset {BASELINE_PRESET}: {baseline.model.caveat}" if baseline else "",
        **{name: getattr(options, name) for name in ("count", "seed", "temperature", "guidance")},
    }
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) if is_remote(output) else Path(output)
        target.mkdir(parents=True, exist_ok=True)
        (target / EVALUATION_JSON).write_text(json.dumps(tables, indent=2, allow_nan=True) + "\n")
        (target / EVALUATION_MARKDOWN).write_text(markdown(tables))
        _draw(target, generator, held_out, results)
        if is_remote(output):
            GcsPrefix(output).upload(sorted(path.name for path in target.iterdir()), target)
        files = {target / name: EVALUATION for name in OUTPUT_FILES if (target / name).exists()}
        tracking.add_results(resolve(run), files, own_metrics(tables))
    print(markdown(tables))
    if not is_remote(run) and (generator.path / METRICS).exists():
        _write_to_tensorboard(generator.path, Path(output), tables["about"]["epoch"])
        if (generator.path / SAMPLE_CLIPS).exists():  # without it, there is nothing to hear
            parameters = generator.model.parameter_count()
            report.write_report(generator.path, note=generator.model.caveat, parameters=parameters)
    return f"{output}/{EVALUATION_MARKDOWN}"


def own_metrics(tables: dict[str, Any]) -> dict[str, float | None]:
    """Return the figures of the run itself, by names such as `evaluation.unconditional.diversity`."""
    return {
        ".".join(filter(None, ("evaluation", kind.replace(" ", "_"), name))): value
        for key in TABLES
        for kind, figures in own_figures(tables[key]).items()
        for name, value in figures.items()
    }


def _check_output(output: str) -> None:
    """Raise if the folder has a file of an evaluation's name, but no evaluation (exit code 2)."""
    folder = StorageFolder(output)
    content = folder.read(EVALUATION_JSON) or b""
    found = next((name for name in OUTPUT_FILES if folder.updated(name)), None)
    if found and b'"reconstruction_quality"' not in content:
        raise UsageError(
            f"`output`: {output}/{found} was not written by an evaluation: move it away, or name another folder",
        )


def _evaluate_all(
    evaluator: Evaluator, generator: Generator, baseline: Generator | None, options: Options
) -> Results:
    settings: SamplingSettings = {"temperature": options.temperature, "guidance": options.guidance}
    count, seed, train, held_out = options.count, options.seed, evaluator.train, evaluator.held_out
    samples_per_value = generator.clip_samples / generator.model.values_per_clip(generator.clip_samples)
    reconstructions: list[Callable[[], Row]] = [
        lambda: evaluator.reconstruction_quality("reconstruction", generator),
        lambda: evaluator.reconstruction_quality_of_pca(samples_per_value),
    ]
    sources: list[Callable[[], dict[str, np.ndarray]]] = [
        lambda: compared_clips.sampled_clips("prior", generator, count, seed, settings),
        lambda: compared_clips.oracle_clips(generator, held_out, seed),
        lambda: compared_clips.baseline_clips(train, held_out, count, seed),
    ]
    if baseline is not None:
        reconstructions.append(lambda: evaluator.reconstruction_quality(BASELINE_PRESET, baseline))
        sources.insert(2, lambda: compared_clips.sampled_clips(BASELINE_PRESET, baseline, count, seed, {}))
    steps = len(reconstructions) + len(sources) + 3
    with Progress("evaluating", steps, "steps") as progress:

        def track(stage: Callable[[], Stage]) -> Stage:
            result = stage()
            progress.advance()
            return result

        tables: dict[str, list[Row]] = {"reconstruction_quality": [track(stage) for stage in reconstructions]}
        clips = {name: part for stage in sources for name, part in track(stage).items()}
        tables["generation_quality"] = track(
            lambda: [evaluator.generation_quality(*named) for named in clips.items()]
        )
        statistics = track(lambda: evaluator.musical_statistics(clips))
        adherence = track(lambda: evaluator.condition_adherence(generator, count, settings))
    real = evaluator.train_statistics
    tables["musical_statistics"] = [
        *(musical_distances.comparison_row(name, real, values) for name, values in statistics.items()),
        musical_distances.floor_row(real, seed),
    ]
    tables["condition_adherence"] = [adherence] if adherence else []
    return Results(tables, clips, {"real": real, **statistics})


def markdown(tables: dict[str, Any]) -> str:
    """Format the tables of an evaluation as Markdown."""
    titles = {
        "reconstruction_quality": "Reconstruction quality",
        "generation_quality": "Generation quality",
        "musical_statistics": "Musical statistics",
        "condition_adherence": "Condition adherence",
    }
    about = tables["about"]
    lines = [
        f"{about['held_out_clips']} clips of the split {about['split']}, {about['training_clips']} training "
        f"clips, epoch {about['epoch']}, {about['count']} generated clips, seed {about['seed']}, temperature "
        f"{about['temperature']:g}, guidance {_describe_guidance(about['guidance'])}.",
        "",
    ]
    for name, title in titles.items():
        rows = tables[name]
        if rows:
            lines += [f"### {title}", "", *_markdown_table(rows), ""]
    return "\n".join([*lines, about["caveat"], ""])


def _describe_guidance(guidance: float | None) -> str:
    if guidance is None:
        return f"{GUIDANCE:g}, or {UNCONDITIONAL_GUIDANCE:g} unconditionally"
    return f"{guidance:g}"


def _markdown_table(rows: list[Row]) -> list[str]:
    """Format a table with one line per figure, because there are more figures than rows."""
    names = [row.get("name", "value") for row in rows]
    figures = dict.fromkeys(figure for row in rows for figure in row if figure != "name")
    head = [f"| figure | {' | '.join(names)} |", f"|---|{'---:|' * len(rows)}"]
    lines = (
        [figure.replace("_", " "), *(_format(row[figure]) if figure in row else "" for row in rows)]
        for figure in figures
    )
    return head + [f"| {' | '.join(line)} |" for line in lines]


def _format(value: float | None) -> str:
    if value is None:
        return "\N{EM DASH}"
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _draw(folder: Path, generator: Generator, held_out: ClipSet, results: Results) -> None:
    """Draw latents by genre, generated clips below real ones, and the distributions of musical statistics."""
    model = generator.model

    def encode(condition: Condition, indices: Sequence[int]) -> Any:
        return model.encode(batches.rows(held_out.audio, indices), condition)

    latents = batches.in_batches(encode, held_out.condition)
    slowest = np.asarray(model.level_values(latents)[model.levels[0]])
    figures.draw_latents(folder / LATENTS_PNG, slowest, list(held_out.genres))
    new, shown = "prior, unconditional", min(clip_figures.PICTURED_CLIPS, len(held_out.audio))
    rows = {"real": held_out.audio[:shown], "generated": results.clips[new][:shown]}
    shown = min(map(len, rows.values()))
    rows = {name: clips[:shown] for name, clips in rows.items()}
    heading = "held-out clips, and below them unconditionally generated ones"
    clip_figures.draw_pictures(folder, rows, generator.sample_rate_hz, held_out.track_ids[:shown], heading)
    distributions = {name: results.statistics[name] for name in ("real", compared_clips.ORACLE, new)}
    statistics_figure.draw_statistics(
        folder / STATISTICS_PNG, distributions, list(musical_distances.STATISTICS)
    )


def _write_to_tensorboard(run: Path, folder: Path, epoch: int) -> None:
    with tf.summary.create_file_writer(str(run / EVENTS)).as_default(step=epoch):
        for path in (folder / name for name in sorted(PICTURES)):
            image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
            tf.summary.image(f"evaluation/{path.stem}", image[tf.newaxis])
