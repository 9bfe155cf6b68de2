"""Compare a candidate with the champion: same held-out clips, same random seeds, same metrics."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from preprocessing.errors import DataError
from preprocessing.html.media import AudioClip
from preprocessing.progress import Progress
from trainer.conditioning import Condition
from trainer.evaluation import musical_distances
from trainer.evaluation.clip_sets import ClipSet, read_clip_set
from trainer.evaluation.embeddings import LOG_MEL, make_embedding
from trainer.evaluation.evaluator import Evaluator
from trainer.generation.generator import Generator
from trainer.generation.load import load
from trainer.registry.holdout import HeldOutSet
from trainer.registry.promotion import Figures, SetComparison
from trainer.registry.report import ClipComparison
from trainer.runs.champion_pointer import candidate_uri

MAX_CLIPS = 4  # held-out clips, and generated clips, on the page

CHAMPION, CANDIDATE = "champion", "candidate"  # also the order of columns


class Comparison(NamedTuple):
    """The metrics of both models on every set, and clips for the page."""

    sets: list[SetComparison]
    held_out: list[ClipComparison]
    generated: list[ClipComparison]


def compare(
    candidate: Generator, champion: Generator | None, sets: list[HeldOutSet], count: int, seed: int
) -> Comparison:
    """Evaluate both models on every set.

    Args:
        candidate: The model that may be promoted.
        champion: The incumbent, of the same sample rate and clip length; None: there is none yet.
        sets: The held-out clips; those of the first set are shown on the page.
        count: Generated clips per model; their distance to each set is measured.
        seed: Of the generated clips.
    """
    models = {CHAMPION: champion} if champion else {}
    models[CANDIDATE] = candidate
    generated: dict[str, np.ndarray] = {}
    reconstructions: dict[str, np.ndarray] = {}
    examples: ClipSet | None = None
    comparisons = []
    steps = len(models) * (1 + len(sets))
    with Progress("evaluating", steps, "tables") as progress:
        for name, generator in models.items():
            generated[name] = generator.sample(count, seed)
            progress.advance()
        for held_out in sets:
            figures: dict[str, Figures] = {}
            for name, generator in models.items():
                clips = read_clip_set(
                    generator, held_out.source, held_out.manifest, "test", held_out.track_ids
                )
                figures[name] = _measure(clips, generator, generated[name], seed)
                if held_out is sets[0]:
                    examples = _select_examples(clips)
                    reconstruction = generator.model.reconstruct(examples.audio, examples.condition)
                    reconstructions[name] = reconstruction.numpy()
                progress.advance()
            comparisons.append(
                SetComparison(
                    name=held_out.name,
                    dataset=held_out.manifest.digest,
                    clips=len(held_out.track_ids),
                    champion=figures.get(CHAMPION),
                    candidate=figures[CANDIDATE],
                )
            )
    assert examples is not None
    rate_hz = candidate.sample_rate_hz
    return Comparison(
        comparisons,
        _held_out_examples(examples, reconstructions, rate_hz),
        _generated_examples(generated, rate_hz),
    )


def load_champion(models: str, name: str, cache: Path) -> Generator:
    """Load the champion's model.

    Raises:
        CommandError: Its files are missing or corrupt (3); storage failed (4).
    """
    try:
        return load(candidate_uri(models, name), cache=cache)
    except DataError as error:
        raise DataError(
            f"the champion {name} of {models} cannot be loaded ({error}): restore its files, or restore the "
            "previous champion with python -m trainer champion rollback",
        ) from error


def _measure(clips: ClipSet, generator: Generator, generated: np.ndarray, seed: int) -> Figures:
    """Measure `trainer.registry.promotion.METRICS`; generated clips are compared with the held-out clips."""
    evaluator = Evaluator(clips, clips, [make_embedding(LOG_MEL)], generator.sample_rate_hz, seed)
    reconstruction = evaluator.reconstruction_quality("", generator)
    return {
        **{name: reconstruction[name] for name in ("snr_db", "stft_distance", "log_mel_distance_db")},
        "frechet_log_mel": evaluator.generation_quality("", generated)[f"frechet_{LOG_MEL}"],
        "musical_distance": musical_distances.mean_distance(
            evaluator.train_statistics, evaluator.musical_statistics({"": generated})[""]
        ),
    }


def _select_examples(clips: ClipSet) -> ClipSet:
    """Select clips evenly spread over a set."""
    available = len(clips.audio)
    count = min(MAX_CLIPS, available)
    chosen = [rank * available // count for rank in range(count)]
    return ClipSet(
        clips.audio[chosen],
        Condition(*(values[chosen] for values in clips.condition)),
        clips.genres[chosen],
        [clips.track_ids[index] for index in chosen],
    )


def _held_out_examples(
    clips: ClipSet, reconstructions: dict[str, np.ndarray], rate_hz: int
) -> list[ClipComparison]:
    return [
        ClipComparison(
            title=track_id,
            genre=str(clips.genres[index]),
            original=AudioClip("Original", clips.audio[index], rate_hz),
            outputs=[
                AudioClip(name.capitalize(), audio[index], rate_hz) for name, audio in reconstructions.items()
            ],
        )
        for index, track_id in enumerate(clips.track_ids)
    ]


def _generated_examples(generated: dict[str, np.ndarray], rate_hz: int) -> list[ClipComparison]:
    return [
        ClipComparison(
            title=f"Clip {index:02d}",
            genre="",
            original=None,
            outputs=[
                AudioClip(name.capitalize(), audio[index], rate_hz) for name, audio in generated.items()
            ],
        )
        for index in range(min(MAX_CLIPS, len(generated[CANDIDATE])))
    ]
