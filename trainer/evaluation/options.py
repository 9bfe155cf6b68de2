"""The options of `evaluate` and their defaults. Standard library only, so that the CLI can read them."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import BEST
from trainer.generation.options import TEMPERATURE

GENERATED_CLIPS = 48  # per model, in an evaluation and in a comparison of models


@dataclass(frozen=True)
class Options:
    """What to evaluate on, and how."""

    checkpoint: str = BEST  # or `NEWEST`
    split: str = "test"  # of the held-out clips
    count: int = GENERATED_CLIPS  # generated clips of each kind
    embeddings: tuple[str, ...] = ()  # for further Fréchet distances; log-mel is always computed
    seed: int = 0  # of the generated clips
    baseline_run: str | None = None  # of the preset reference; None: the run's name with -reference
    temperature: float = TEMPERATURE
    guidance: float | None = None  # None: the generator's default, which depends on the condition
