"""The smallest useful corpus, record format and model, which most tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 1_000
CLIP_SAMPLES = 1_024
GENRES = ("blues", "rock")
# Flags of preprocessing for the tiny record format.
TINY = ["--sample-rate-hz", str(RATE_HZ), "--clip-secs", "1.024", "--clip-samples", str(CLIP_SAMPLES)]

# A hierarchical model that trains on the tiny corpus in seconds, as fields of the configuration and as flags.
WAVE = {
    "channels": 8,
    "hop_samples": 16,
    "generation_share": 0.0,  # a second stage takes the time of compiling another step
    "adversarial_weight": 1.0,
    "level_weight": 1.0,
    "crop_samples": 256,
    "decoded_samples": 128,
    "crops_per_clip": 4,
    "warmup_steps": 4,
    "latent_dim": 4,
    "sequence_latent_dim": 3,
    "sparse_coefficients": 2,
    "prior_units": 8,
    "prior_mixtures": 2,
    "coefficient_model_units": 6,
    "sample_clips": 2,
}
WAVE_FLAGS = [part for name, value in WAVE.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def write_clip(path: Path, number: int, rate_hz: int = 8_000, secs: float = 1.1, **kwargs: str) -> None:
    """Write an audio file with three sines whose frequencies depend on `number`."""
    rng = np.random.default_rng(number)
    time_secs = np.arange(round(secs * rate_hz)) / rate_hz
    partials = [np.sin(2 * np.pi * hz * time_secs + phase) for hz, phase in rng.uniform(40, 400, (3, 2))]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.25 * np.sum(partials, axis=0), rate_hz, **kwargs)


@contextlib.contextmanager
def without_figures_and_music() -> Iterator[None]:
    """Let training draw no pictures and generate no music, which take as long as everything else."""
    from trainer.reporting import clip_figures
    from trainer.training import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_figures, "draw_pictures", lambda *_: {})
        patch.setattr(train, "generate_all", lambda *_: ())
        yield
