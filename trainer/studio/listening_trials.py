"""The trials of a blind listening test: ratings beside a reference, and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.signal

from trainer.generation.generator import Generator
from trainer.generation.sources import SourceClip
from trainer.reporting.listening import ANCHOR, HIDDEN_REFERENCE, PAIR, RATING
from trainer.studio.session import Session

MODEL, BASELINE, REAL = "model", "baseline", "real clip"
RATINGS, PAIRS = 4, 6  # trials of a test
# The low anchor of ITU-R BS.1534-3, 3.5 kHz of 20 kHz, at any sample rate.
ANCHOR_BAND_FRACTION = 3.5 / 20


class Stimulus(NamedTuple):
    """Something to listen to."""

    system: str  # is not shown
    audio: np.ndarray  # [samples] float32


class Trial(NamedTuple):
    """One question of a test."""

    kind: str  # `RATING`: rate all stimuli beside the reference; `PAIR`: choose one of two
    clip: str  # name of the reference, or what was generated
    reference: np.ndarray | None  # [samples]; None for pairs
    stimuli: list[Stimulus]  # in random order


def make_trials(session: Session, seed: int) -> list[Trial]:
    """Make the trials of one listener; `seed` decides clips and orders.

    Ratings are like MUSHRA (ITU-R BS.1534-3): reconstructions of a real clip beside the clip itself and an anchor, both
    hidden. Pairs are of new music, real clips and the anchor.
    """
    rng = np.random.default_rng(seed)
    clips = session.test_clips
    chosen = [clips[index] for index in rng.permutation(len(clips))[:RATINGS]]
    with session.model_lock:
        trials = [_rating(session, clip, rng) for clip in chosen]
        trials += _pairs(session, rng)
    return [trials[index] for index in rng.permutation(len(trials))]


def anchor(audio: np.ndarray) -> np.ndarray:
    """Low-pass `[samples]` to the anchor's band."""
    sections = scipy.signal.butter(8, ANCHOR_BAND_FRACTION, output="sos")
    return scipy.signal.sosfiltfilt(sections, audio).astype(np.float32)


def _rating(session: Session, clip: SourceClip, rng: np.random.Generator) -> Trial:
    systems = {HIDDEN_REFERENCE: clip.audio, ANCHOR: anchor(clip.audio)}
    systems[MODEL] = _reconstruct(session.generator, clip)
    if session.baseline:
        systems[BASELINE] = _reconstruct(session.baseline, clip)
    return Trial(RATING, clip.name, _same_level(clip.audio), _shuffled(systems, rng))


def _pairs(session: Session, rng: np.random.Generator) -> list[Trial]:
    seed = int(rng.integers(2**31))
    made = {MODEL: session.generator.sample(PAIRS, seed)}
    if session.baseline:
        made[BASELINE] = session.baseline.sample(PAIRS, seed)
    order = rng.permutation(len(session.test_clips))
    trials = []
    for number in range(PAIRS):
        real = session.test_clips[order[number % len(order)]].audio
        systems = {name: clips[number] for name, clips in made.items()}
        systems |= {REAL: real, ANCHOR: anchor(real)}
        others = [name for name in systems if name != MODEL]
        pair = {name: systems[name] for name in (MODEL, others[number % len(others)])}
        trials.append(Trial(PAIR, f"new music, seed {seed}, clip {number}", None, _shuffled(pair, rng)))
    return trials


def _reconstruct(generator: Generator, clip: SourceClip) -> np.ndarray:
    known = generator.model.capabilities.conditional and clip.genre in generator.genres
    audio: np.ndarray = generator.reconstruct(clip.audio[np.newaxis], clip.genre if known else None)[0]
    return audio


def _shuffled(systems: dict[str, np.ndarray], rng: np.random.Generator) -> list[Stimulus]:
    names: Sequence[str] = list(systems)
    return [
        Stimulus(names[index], _same_level(systems[names[index]])) for index in rng.permutation(len(names))
    ]


def _same_level(audio: np.ndarray) -> np.ndarray:
    """Scale to a common level, so that loudness does not tell systems apart."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    scaled = audio * (10 ** (-20 / 20) / max(rms, 1e-6))
    return (scaled / max(1.0, float(np.abs(scaled).max()))).astype(np.float32)
