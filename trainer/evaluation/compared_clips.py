"""The clips that an evaluation compares with real ones: new clips, the oracle, and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import tensorflow as tf

from trainer.conditioning import Condition
from trainer.evaluation.baselines import phase_randomized, shaped_noise
from trainer.evaluation.clip_sets import ClipSet
from trainer.generation.batches import COEFFICIENT_NOISE, in_batches, normal_noise, rows
from trainer.generation.generator import Generator

REAL = "real held-out clips"
ORACLE = "oracle"


class SamplingSettings(TypedDict, total=False):
    """How clips are sampled; see `Generator.sample`."""

    temperature: float
    guidance: float | None


def sampled_clips(
    name: str, generator: Generator, count: int, seed: int, settings: SamplingSettings
) -> dict[str, np.ndarray]:
    """Sample unconditional clips and, of a conditional model, clips of each genre in turn, by their names."""
    clips = {f"{name}, unconditional": generator.sample(count, seed, **settings)}
    if generator.model.capabilities.conditional:
        genres = [generator.genres[index % len(generator.genres)] for index in range(count)]
        clips[f"{name}, genres in turn"] = generator.sample(count, seed + 1, genres, **settings)
    return clips


def oracle_clips(generator: Generator, held_out: ClipSet, seed: int) -> dict[str, np.ndarray]:
    """Decode the posterior of held-out clips exactly as a sample of the prior is decoded.

    A perfect prior could give nothing better. Where the oracle is far from real clips, what latents can be
    decoded to limits the model; where new clips are far from the oracle, the prior does.
    """
    model, samples = generator.model, held_out.audio.shape[1]

    def decode(condition: Condition, indices: Sequence[int]) -> tf.Tensor:
        latents = model.as_sampled(model.encode(rows(held_out.audio, indices), condition))
        noise = normal_noise(seed, COEFFICIENT_NOISE, indices, model.decode_noise_size(samples))
        return model.decode(latents, condition, samples, noise)

    return {ORACLE: in_batches(decode, held_out.condition)}


def baseline_clips(train: ClipSet, held_out: ClipSet, count: int, seed: int) -> dict[str, np.ndarray]:
    """Return real held-out clips, the lower bound, and signals that share only statistics with music."""
    return {
        REAL: held_out.audio,
        "real clips with random phases": phase_randomized(held_out.audio, seed),
        "noise shaped like the corpus": shaped_noise(train.audio, count, held_out.audio.shape[1], seed),
    }
