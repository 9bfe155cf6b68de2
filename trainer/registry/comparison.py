"""A candidate beside the champion: the same held-out clips, the same seeds, the same figures of both."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.html.page import Sound
from trainer.conditioning import Condition
from trainer.evaluation.embeddings import LOG_MEL, make_embedding
from trainer.evaluation.evaluator import Clips, Evaluator, read_clips
from trainer.generation.generator import Generator, load
from trainer.registry.holdout import HeldOut
from trainer.registry.promotion import Compared, Figures
from trainer.runs.champion_pointer import candidate_uri

HEARD_CLIPS = 4  # of each kind on the page

CHAMPION, CANDIDATE = "champion", "candidate"  # also the order of columns


class Heard(NamedTuple):
    """What the page lets one hear."""

    clips: list[tuple[str, str, Sound, list[Sound]]]  # track id, genre, original, each model's reconstruction
    new: list[list[Sound]]  # for each latent, what each model makes of it
    sample_rate_hz: int


def compare(
    candidate: Generator, champion: Generator | None, sets: list[HeldOut], count: int, seed: int
) -> tuple[list[Compared], Heard]:
    """Measures both models on every set.

    Args:
        candidate: The model to judge.
        champion: The one to beat, of the same rate and clip length; None: there is none yet.
        sets: The clips, those that are heard first.
        count: New clips of each model, whose distance to each set is measured.
        seed: Of the new clips.
    """
    models = {CHAMPION: champion, CANDIDATE: candidate} if champion else {CANDIDATE: candidate}
    new: dict[str, np.ndarray] = {}
    compared = []
    heard: list[tuple[Clips, np.ndarray]] = []
    with tqdm(total=len(models) * (1 + len(sets)), desc="judging", unit=" tables", leave=False) as bar:
        for name, music in models.items():
            new[name] = music.prior(count, seed)
            bar.update()
        for one in sets:
            figures: dict[str, Figures | None] = {CHAMPION: None}
            for name, music in models.items():
                clips = read_clips(music, one.folder, one.manifest, "test", one.track_ids)
                figures[name] = _figures(clips, music, new[name], seed)
                if one is sets[0]:
                    heard.append(_reconstruct_some(clips, music))
                bar.update()
            compared.append(Compared(one.what, one.manifest.digest, len(one.track_ids), **figures))
    return compared, _heard(list(models), heard, new, candidate.sample_rate_hz)


def load_champion(models: str, name: str, cache: Path) -> Generator:
    """The model to beat.

    Raises:
        CommandError: It is not there any more, or damaged (3); storage failed (4).
    """
    try:
        return load(candidate_uri(models, name), cache)
    except CommandError as error:
        if error.exit_code != BAD_DATA:
            raise
        raise CommandError(
            f"the champion {name} of {models} cannot be loaded ({error}): restore its files, or go back with "
            "python -m trainer champion rollback",
            BAD_DATA,
        ) from error


def _figures(clips: Clips, music: Generator, new: np.ndarray, seed: int) -> Figures:
    """The metrics of `trainer.registry.promotion`; new music is measured against the held-out clips themselves."""
    judge = Evaluator(clips, clips, [make_embedding(LOG_MEL)], music.sample_rate_hz, seed)
    reconstruction_quality = judge.reconstruction_quality("", music)
    return {
        **{name: reconstruction_quality[name] for name in ("snr_db", "stft_distance", "log_mel_distance_db")},
        "frechet_log_mel": judge.generation_quality_of("", new)[f"frechet_{LOG_MEL}"],
    }


def _reconstruct_some(clips: Clips, music: Generator) -> tuple[Clips, np.ndarray]:
    """Clips spread over a set, and what a model makes of them."""
    there = len(clips.audio)
    wanted = min(HEARD_CLIPS, there)
    chosen = [rank * there // wanted for rank in range(wanted)]
    some = Clips(
        clips.audio[chosen],
        Condition(*(part[chosen] for part in clips.condition)),
        clips.genres[chosen],
        [clips.track_ids[index] for index in chosen],
    )
    return some, music.model.reconstruct(some.audio, some.condition).numpy()


def _heard(
    names: list[str], heard: list[tuple[Clips, np.ndarray]], new: dict[str, np.ndarray], sample_rate_hz: int
) -> Heard:
    clips = heard[0][0]
    titles = [name.capitalize() for name in names]

    def sounds(made: list[np.ndarray]) -> list[Sound]:
        return [Sound(title, clip, sample_rate_hz) for title, clip in zip(titles, made, strict=True)]

    rows = [
        (track_id, str(clips.genres[index]), Sound("Original", clips.audio[index], sample_rate_hz),
         sounds([made[index] for _, made in heard]))
        for index, track_id in enumerate(clips.track_ids)
    ]  # fmt: skip
    shown = min(HEARD_CLIPS, len(new[CANDIDATE]))
    return Heard(
        rows, [sounds([new[name][index] for name in names]) for index in range(shown)], sample_rate_hz
    )
