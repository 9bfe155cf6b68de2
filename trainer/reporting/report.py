"""Write the report of a training run: one self-contained page of metrics, learning curves and clips.

It needs only the run's directory, neither the model nor the dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from preprocessing.dataset.splits import SPLITS
from preprocessing.html.media import AudioClip, ClipFigure, SpectrogramScale, clip_figure, data_uri
from preprocessing.html.numbers import format_duration, format_number
from preprocessing.html.page import Fact, Gallery, fact_list, render
from preprocessing.storage.atomic import write_atomically
from trainer.config import MODES
from trainer.reporting.charts import line_charts
from trainer.reporting.evaluation_section import read_evaluation
from trainer.reporting.listening import read_summary
from trainer.reporting.run_results import Reconstruction, RunResults, read_results
from trainer.runs import rollbacks
from trainer.runs.directory import METRICS, REPORT, TRAINING_GIF
from trainer.runs.metrics import best_epoch

_FINAL_METRICS = {  # key in metrics.jsonl after "train_" or "test_" -> title and unit
    "elbo": ("ELBO", "nats per clip"),
    "log_likelihood": ("Log-likelihood", "nats per clip"),
    "kl": ("KL divergence", "nats per clip"),
    "snr_db": ("Signal-to-noise ratio", "dB"),
}
_EPOCH_SAMPLES = (
    "Generated clips",
    "Sampled from the prior by the last epoch's model; every epoch starts from the same noise.",
)
MODE_TEXTS = {  # mode of generation -> heading and lead
    "prior": (
        "Samples from the prior",
        "Generated without a source clip, conditioned on each genre in turn.",
    ),
    "variation": ("Variations", "Held-out clips, encoded; noise is added to their latents before decoding."),
    "reconstruct": (
        "Reconstructions",
        "Held-out clips, encoded and decoded, conditioned on their genre only.",
    ),
    "interpolate": ("Interpolations", "Steps between the latents of the first and the last held-out clip."),
    "transfer": ("Style transfer", "The content of a held-out clip in the style of another genre."),
    "continue": ("Continuations", "The first third is the held-out clip; the model continues it."),
}


@dataclass(frozen=True)
class FinalMetric:
    """A row of the table of final metrics."""

    title: str
    unit: str
    train: float | None
    test: float | None


@dataclass(frozen=True)
class ClipCard:
    """A held-out clip beside its reconstruction."""

    title: str
    remark: str
    figures: list[ClipFigure]


def write_report(run: Path, note: str = "", title: str = "", parameters: int | None = None) -> Path:
    """Write `report.html` into a run's directory.

    Args:
        run: A directory with the run's configuration, metrics and samples, and perhaps clips that were
            generated after training: each mode of generation gets a section.
        note: The model's own caveat, shown beside the final metrics.
        title: The page's heading; empty for one with the preset's name.
        parameters: The model's parameter count, if known.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: The directory lacks metrics or samples.
    """
    results = read_results(run)
    originals = [clip.original for clip in results.reconstructions]
    scale = SpectrogramScale.of(originals, _max_hz(originals[0], results))
    last_epoch = results.epochs[-1]
    galleries = {_EPOCH_SAMPLES: results.epoch_samples}
    galleries |= {MODE_TEXTS[mode]: results.generated.get(mode, []) for mode in MODES}
    page = render(
        "trainer.reporting",
        "report.html.jinja",
        title=title or f"{results.config.get('preset', run.name)}: training report",
        facts=_facts(run, results, parameters),
        last_epoch=last_epoch["epoch"],
        best_epoch=best_epoch(results.epochs),
        final_metrics=[
            FinalMetric(*texts, last_epoch.get(f"train_{key}"), last_epoch.get(f"test_{key}"))
            for key, texts in _FINAL_METRICS.items()
        ],
        note=" ".join([note, *map(str, rollbacks.read(run))]).strip(),
        line_charts=line_charts(results.epochs),
        evaluation=read_evaluation(run),
        listening=read_summary(run),
        training_gif_uri=_training_gif_uri(run),
        reconstructions=[_clip_card(clip, scale) for clip in results.reconstructions],
        galleries=[
            Gallery(*texts, [clip_figure(clip, scale) for clip in clips])
            for texts, clips in galleries.items()
        ],
        config=results.config,
    )
    path = run / REPORT
    write_atomically(path, page)
    return path


def _max_hz(original: AudioClip, results: RunResults) -> float:
    """Return half the dataset's rate, because WAV files of a higher rate have no content above it."""
    return min(original.sample_rate_hz, results.setting("sample_rate_hz") or original.sample_rate_hz) / 2


def _facts(run: Path, results: RunResults, parameters: int | None) -> list[Fact]:
    dataset = results.config.get("dataset", {})
    rate_hz, samples = results.setting("sample_rate_hz"), results.setting("clip_samples")
    ended = datetime.fromtimestamp((run / METRICS).stat().st_mtime, UTC)
    counts = dataset.get("counts", {})
    return fact_list(
        {
            "Preset": results.config.get("preset", ""),
            "Date": f"{ended:%d %b %Y}".lstrip("0"),
            "Epochs": format_number(results.epochs[-1]["epoch"], 0),
            "Training time": format_duration(sum(epoch.get("epoch_secs", 0) for epoch in results.epochs)),
            "Parameters": format_number(parameters, 0) if parameters else "",
            "Audio": f"{rate_hz:,} Hz, {samples / rate_hz:.0f} s" if rate_hz and samples else "",
        },
        wide={
            "Genres": ", ".join(dataset.get("genres", [])),
            "Clips": ", ".join(
                f"{sum(counts[split].values()):,} {split}" for split in SPLITS if split in counts
            ),
            "Dataset": dataset.get("uri", ""),
            "Program": results.config.get("program", ""),
        },
    )


def _training_gif_uri(run: Path) -> str | None:
    path = run / TRAINING_GIF
    return data_uri(path.read_bytes(), "image/gif") if path.exists() else None


def _clip_card(clip: Reconstruction, scale: SpectrogramScale) -> ClipCard:
    return ClipCard(
        title=clip.track_id,
        remark=f"{clip.genre} \N{MIDDLE DOT} signal-to-noise ratio {format_number(clip.snr_db())} dB",
        figures=[clip_figure(audio, scale) for audio in (clip.original, clip.reconstruction)],
    )
