"""The presets: a configuration for each size of model and purpose. Standard library only."""

from __future__ import annotations

from preprocessing.errors import UsageError
from trainer.config import Config

BASELINE_PRESET = "reference"  # which `evaluate` compares a run with

PRESETS: dict[str, Config] = {
    # For the demo: two minutes on two cores with about fifty clips.
    "tiny": Config(
        preset="tiny",
        epochs=8,
        batch_size=4,
        crop_samples=16_384,
        channels=96,
        prior_units=128,
        coefficient_model_units=32,
    ),
    "wave": Config(),
    # For a day on one GPU at 22,050 Hz: crops of the same duration, and a larger model.
    "wave-large": Config(
        preset="wave-large",
        epochs=200,
        batch_size=16,
        crop_samples=262_144,
        crops_per_clip=4,
        learning_rate=5e-4,
        latent_dim=64,
        sequence_latent_dim=32,
        sparse_coefficients=44,
        hop_samples=512,
        channels=512,
        prior_units=768,
        prior_mixtures=16,
        coefficient_model_units=96,
        ema_decay=0.999,
    ),
    # The notebook's settings: whole clips as one time step, two latent values, no annealing, no clipping.
    "reference": Config(
        preset="reference",
        epochs=20,
        crop_samples=0,
        crops_per_clip=1,
        learning_rate=3e-4,
        final_learning_rate=3e-4,
        warmup_steps=0,
        gradient_clip_norm=0.0,
        beta=1.0,
        beta_warmup_epochs=0.0,
        free_bits=0.0,
        gain_db=0.0,
        latent_dim=2,
    ),
}

# The sample rates in Hz that a preset is made for: its transform and crops have the right durations only there.
SAMPLE_RATES_HZ = {
    "tiny": (1_000, 12_000),
    "wave": (1_000, 12_000),
    "wave-large": (12_000, 48_000),
    "reference": (1, 192_000),  # its model has no notion of time
}
USUAL_RATE_HZ = {"wave": 3_000, "tiny": 3_000, "wave-large": 22_050, "reference": 3_000}


def check_sample_rate(config: Config, sample_rate_hz: int) -> None:
    """Raise if a preset is made for other sample rates than that of the data, unless its hop was changed.

    Raises:
        CommandError: It is (exit code 2).
    """
    preset = config.preset
    low_hz, high_hz = SAMPLE_RATES_HZ[preset]
    is_adapted = config.hop_samples != PRESETS[preset].hop_samples
    if _is_for(preset, sample_rate_hz) or is_adapted:
        return
    other = next((name for name in ("wave", "wave-large") if _is_for(name, sample_rate_hz)), "")
    advice = other and f"use `preset` {other}, or "
    raise UsageError(
        f"`preset` {preset} is made for {low_hz:,} to {high_hz:,} Hz, and the dataset is at {sample_rate_hz:,} Hz: "
        f"{advice}preprocess with `sample_rate_hz` {USUAL_RATE_HZ[preset]}",
    )


def _is_for(preset: str, sample_rate_hz: int) -> bool:
    low_hz, high_hz = SAMPLE_RATES_HZ[preset]
    return low_hz <= sample_rate_hz <= high_hz
