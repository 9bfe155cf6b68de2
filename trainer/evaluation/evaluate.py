"""The command `evaluate`: JSON, a Markdown table, pictures, and a section of the report."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from tqdm import tqdm

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer.config import GUIDANCE, UNCONDITIONAL_GUIDANCE
from trainer.data.fetch import open_dataset
from trainer.evaluation.embeddings import make_embedding
from trainer.evaluation.evaluator import Clips, Evaluator, Row, read_clips
from trainer.generation.generator import Generator, load
from trainer.presets import BASELINE_PRESET
from trainer.reporting import clip_figures, report
from trainer.reporting import figures as render
from trainer.runs.directory import (
    CHECKPOINTS,
    EVALUATION,
    EVALUATION_JSON,
    EVALUATION_MARKDOWN,
    EVENTS,
    METRICS,
)
from trainer.runs.storage import Prefix, is_remote
from trainer.training.train import train_and_evaluate

OWN_EMBEDDING = "log-mel"
BASELINE_EPOCHS = 5


class Options(NamedTuple):
    """What `evaluate` can be told; `baseline_run` is the baseline's run, trained where it is not there."""

    split: str = "test"
    count: int = 48
    embeddings: tuple[str, ...] = ()
    seed: int = 0
    baseline_run: str | None = None
    temperature: float = 1.0
    guidance: float | None = None  # each way's own


def evaluate(run: str, data: str, output: str | None, cache: Path, options: Options) -> str:
    """Judges a run and its baselines on clips that it was not trained on; returns where the tables are.

    Raises:
        CommandError: Another dataset's format or an unknown embedding (2), no run or no data (3), storage
            failed (4).
    """
    output = output or f"{run.rstrip('/')}/{EVALUATION}"
    embeddings = [make_embedding(name) for name in dict.fromkeys((OWN_EMBEDDING, *options.embeddings))]
    music = load(run, cache)
    folder, manifest = open_dataset(data, cache)
    train, held_out = (read_clips(music, folder, manifest, split) for split in ("train", options.split))
    if len(held_out.audio) < 2:
        raise CommandError(f"--split {options.split} of {data} has fewer than 2 clips to judge by", BAD_DATA)
    baseline = _load_baseline(run, data, options, cache)
    judge = Evaluator(train, held_out, embeddings, music.sample_rate_hz, options.seed)
    tables = _judge(judge, music, baseline, options)
    tables["about"] = {
        "run": run,
        "data": data,
        "split": options.split,
        "training_clips": len(train.audio),
        "held_out_clips": len(held_out.audio),
        "epoch": _epoch(music),
        "caveat": f"Of the preset {BASELINE_PRESET}: {baseline.model.caveat}",
        **{name: getattr(options, name) for name in ("count", "seed", "temperature", "guidance")},
    }
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) if is_remote(output) else Path(output)
        target.mkdir(parents=True, exist_ok=True)
        (target / EVALUATION_JSON).write_text(json.dumps(tables, indent=2, allow_nan=True) + "\n")
        (target / EVALUATION_MARKDOWN).write_text(markdown(tables))
        _draw(target, music, held_out, options)
        if is_remote(output):
            Prefix(output).upload(sorted(path.name for path in target.iterdir()), target)
    if not is_remote(run) and (music.path / METRICS).exists():
        _to_tensorboard(music.path, Path(output), _epoch(music))
        parameters = music.model.parameter_count()
        report.write_report(music.path, note=music.model.caveat, parameters=parameters)
    print(markdown(tables))
    return f"{output}/{EVALUATION_MARKDOWN}"


def _judge(judge: Evaluator, music: Generator, baseline: Generator, options: Options) -> dict:
    settings = {"temperature": options.temperature, "guidance": options.guidance}
    samples_per_value = music.clip_samples / music.model.values_per_clip(music.clip_samples)
    stages = {
        "reconstruction_quality": (
            lambda: judge.reconstruction_quality("reconstruction", music),
            lambda: judge.reconstruction_quality_of_pca(samples_per_value),
            lambda: judge.reconstruction_quality("reference", baseline),
        ),
        "generation_quality": (
            lambda: judge.generation_quality("prior", music, options.count, settings),
            lambda: judge.generation_quality("reference", baseline, options.count, {}),
            lambda: judge.generation_quality_of_baselines(options.count),
        ),
        "condition_adherence": (lambda: judge.condition_adherence(music, options.count, settings),),
    }
    tables: dict[str, list[Row]] = {name: [] for name in stages}
    with tqdm(total=sum(map(len, stages.values())), desc="judging", unit=" tables", leave=False) as bar:
        for name, makers in stages.items():
            for make in makers:
                made = make()
                tables[name] += made if isinstance(made, list) else [made] if made else []
                bar.update()
    return tables


def markdown(tables: dict) -> str:
    """The tables of an evaluation as Markdown, one column for each figure."""
    titles = {
        "reconstruction_quality": "Reconstruction of held-out clips",
        "generation_quality": "New music",
        "condition_adherence": "What is asked, and what is heard",
    }
    about = tables["about"]
    lines = [
        f"{about['held_out_clips']} clips of the split {about['split']}, {about['training_clips']} training "
        f"clips, epoch {about['epoch']}, {about['count']} new clips, seed {about['seed']}, temperature "
        f"{about['temperature']:g}, guidance {_guidance(about['guidance'])}.",
        "",
    ]
    for name, title in titles.items():
        rows = tables[name]
        if rows:
            lines += [f"### {title}", "", *_markdown_table(rows), ""]
    return "\n".join([*lines, about["caveat"], ""])


def _guidance(given: float | None) -> str:
    return (
        f"{GUIDANCE:g}, or {UNCONDITIONAL_GUIDANCE:g} with nothing asked" if given is None else f"{given:g}"
    )


def _markdown_table(rows: list[Row]) -> list[str]:
    """Figures down, rows across: there are more figures than rows."""
    names = [row.get("what", "value") for row in rows]
    figures = dict.fromkeys(figure for row in rows for figure in row if figure != "what")
    head = [f"| figure | {' | '.join(names)} |", f"|---|{'---:|' * len(rows)}"]
    return head + [
        f"| {figure.replace('_', ' ')} | {' | '.join(_shown(row.get(figure)) for row in rows)} |"
        for figure in figures
    ]


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _load_baseline(run: str, data: str, options: Options, cache: Path) -> Generator:
    baseline_run = options.baseline_run or f"{run.rstrip('/')}-reference"
    try:
        return load(baseline_run, cache)
    except CommandError as error:
        if error.exit_code != BAD_DATA or options.baseline_run:
            raise
    print(
        f"{baseline_run}: training the baseline, preset {BASELINE_PRESET}; --baseline-run names one that is trained already"
    )
    try:
        train_and_evaluate(
            data, baseline_run, {"preset": BASELINE_PRESET, "epochs": BASELINE_EPOCHS}, None, cache
        )
    except CommandError as error:  # it diverged for good; what it was before is a baseline too
        if error.exit_code != USAGE:
            raise
        print(error)
    return load(baseline_run, cache)


def _draw(folder: Path, music: Generator, held_out: Clips, options: Options) -> None:
    """The latents of the slowest level by genre, and new clips under real ones."""
    latents = music.model.encode(held_out.audio, held_out.condition)
    slowest = music.model.level_values(latents)[music.model.levels[0]].numpy()
    render.draw_latents(folder / "latents.png", slowest, list(held_out.genres))
    shown = min(clip_figures.PICTURED_CLIPS, len(held_out.audio))
    rows = {"real": held_out.audio[:shown], "new": music.sample(shown, options.seed)}
    heading = "held-out clips, and below them new ones of which nothing was asked"
    clip_figures.draw_pictures(folder, rows, music.sample_rate_hz, held_out.track_ids[:shown], heading)


def _to_tensorboard(run: Path, folder: Path, epoch: int) -> None:
    with tf.summary.create_file_writer(str(run / EVENTS)).as_default(step=epoch):
        for path in sorted(folder.glob("*.png")):
            image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
            tf.summary.image(f"evaluation/{path.stem}", image[tf.newaxis])


def _epoch(music: Generator) -> int:
    """Finished epochs of the run's newest checkpoint."""
    newest = tf.train.latest_checkpoint(str(music.path / CHECKPOINTS))
    return int(tf.train.load_variable(newest, "epoch/.ATTRIBUTES/VARIABLE_VALUE"))
