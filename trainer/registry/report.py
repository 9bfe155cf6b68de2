"""Render the page of a promotion decision: metrics and clips of champion and candidate side by side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from preprocessing.html.media import AudioClip, ClipFigure, SpectrogramScale, clip_figure
from preprocessing.html.numbers import format_number
from preprocessing.html.page import Fact, fact_list, render
from trainer.registry.promotion import METRICS, Criteria, SetComparison, describe_gain

MISSING_CHAMPION = "none yet"


@dataclass(frozen=True)
class ClipComparison:
    """A clip as each model renders it; `original` is None for clips that are sampled from the prior."""

    title: str
    genre: str
    original: AudioClip | None
    outputs: list[AudioClip]  # captioned with the models' names


@dataclass(frozen=True)
class MetricRow:
    """A metric of both models, formatted; the change is that of the error."""

    title: str
    unit: str
    champion: str | None
    candidate: str
    change: str | None
    change_class: str
    meaning: str
    is_criterion: bool


@dataclass(frozen=True)
class ComparisonTable:
    """The metrics on one set of held-out clips."""

    name: str
    clips: int
    dataset: str
    rows: list[MetricRow]
    has_champion: bool


@dataclass(frozen=True)
class ClipCard:
    """A clip of the page."""

    title: str
    remark: str
    figures: list[ClipFigure]


def write_page(
    decision: dict[str, Any],
    comparisons: list[SetComparison],
    criteria: Criteria,
    held_out: list[ClipComparison],
    generated: list[ClipComparison],
) -> str:
    """Render the page.

    Args:
        decision: The content of `promotion.json`.
        comparisons: The metrics on each set of held-out clips; the first decides.
        criteria: The criteria of the decision.
        held_out: At least one held-out clip with its reconstructions.
        generated: Clips that both models sampled from the same noise.

    Returns:
        The page's HTML.
    """
    originals = [clip.original for clip in held_out if clip.original is not None]
    scale = SpectrogramScale.of(originals, originals[0].sample_rate_hz / 2)
    return render(
        "trainer.registry",
        "comparison.html.jinja",
        title=f"Candidate {decision['candidate']}",
        decision=decision["decision"],
        reason=f"{decision['reason'][:1].upper()}{decision['reason'][1:]}.",
        notes=decision["notes"],
        facts=_facts(decision),
        tables=[
            _table(comparison, criteria, decides=comparison is comparisons[0]) for comparison in comparisons
        ],
        held_out=[_clip_card(clip, scale) for clip in held_out],
        generated=[_clip_card(clip, scale) for clip in generated],
        details=decision,
    )


def _facts(decision: dict[str, Any]) -> list[Fact]:
    criteria, init_from = decision["criteria"], decision["init_from"]
    return fact_list(
        {
            "Required gain": f"{criteria['metric']}, {criteria['min_gain']:.1%}",
            "Allowed loss": f"{criteria['max_loss']:.1%} in each metric",
            "Generated clips": f"{criteria['count']:,}",
            "Evaluated": f"{datetime.fromisoformat(decision['evaluated']):%d %b %Y, %H:%M} UTC".lstrip("0"),
        },
        wide={
            "Champion": decision["champion"] or MISSING_CHAMPION,
            "Initial weights": f"those of {init_from}" if init_from else "random",
            "Dataset": f"{decision['dataset'][:12]} {decision['data']}",
        },
    )


def _table(comparison: SetComparison, criteria: Criteria, decides: bool) -> ComparisonTable:
    champion = comparison.champion
    gains = comparison.gains() if champion else {}
    rows = []
    for name, metric in METRICS.items():
        is_criterion = name == criteria.metric
        change_class, meaning = (
            _meaning(gains[name], criteria, decides and is_criterion) if gains else ("", "")
        )
        rows.append(
            MetricRow(
                title=metric.title,
                unit=metric.unit,
                champion=_format(champion[name]) if champion else None,
                candidate=_format(comparison.candidate[name]),
                change=describe_gain(gains[name]).removesuffix(" error") if gains else None,
                change_class=change_class,
                meaning=meaning,
                is_criterion=is_criterion,
            )
        )
    return ComparisonTable(
        comparison.name, comparison.clips, comparison.dataset[:12], rows, champion is not None
    )


def _meaning(gain: float, criteria: Criteria, decides: bool) -> tuple[str, str]:
    """Return the CSS class and the meaning of a metric's change."""
    if gain < -criteria.max_loss:
        return "warn", "exceeds the allowed loss"
    if decides:
        return ("good", "sufficient gain") if gain >= criteria.min_gain else ("warn", "insufficient gain")
    return ("good", "better") if gain > 0 else ("", "within the allowed loss")


def _format(value: float) -> str:
    return format_number(value, 2 if abs(value) < 100 else 0)


def _clip_card(clip: ClipComparison, scale: SpectrogramScale) -> ClipCard:
    clips = [*([clip.original] if clip.original else []), *clip.outputs]
    return ClipCard(clip.title, clip.genre, [clip_figure(audio, scale) for audio in clips])
