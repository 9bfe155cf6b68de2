"""The presets: a configuration for each size of model and purpose. Standard library only."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from preprocessing.errors import UsageError
from trainer.config import Config

BASELINE_PRESET = "reference"  # which `evaluate` compares a run with
HIERARCHICAL, REFERENCE = "hierarchical", "reference"  # architectures

PRESETS: dict[str, Config] = {}  # by name; see `register_preset`


class Purpose(NamedTuple):
    """What a preset is for."""

    architecture: str  # a name that a model is registered with
    sample_rates_hz: tuple[
        int, int
    ]  # lowest and highest: its transform and crops have the right durations only there
    usual_rate_hz: int  # what to preprocess with


_PURPOSES: dict[str, Purpose] = {}


def register_preset(
    config: Config,
    architecture: str = HIERARCHICAL,
    sample_rates_hz: tuple[int, int] = (1, 192_000),
    usual_rate_hz: int = 3_000,
) -> None:
    """Add a preset, named `config.preset`, for `train`, `load` and the command line of this process.

    Args:
        config: The settings of a run of this preset, unless they are overridden.
        architecture: `HIERARCHICAL`, `REFERENCE` or the name of a model of `trainer.register_model`.
        sample_rates_hz: The lowest and the highest sample rate of datasets that it is for.
        usual_rate_hz: The sample rate that a message recommends.

    Raises:
        UsageError: It is the name of a preset of this program.
    """
    name = config.preset
    if name in _OWN:
        raise UsageError(f"{name} is a preset of this program: choose another name")
    PRESETS[name] = config
    _PURPOSES[name] = Purpose(architecture, sample_rates_hz, usual_rate_hz)


def find_preset(name: str) -> Config:
    """Return the configuration of a preset.

    Raises:
        UsageError: There is none of this name.
    """
    _require(name)
    return PRESETS[name]


def architecture(config: Config) -> str:
    """Name the architecture that a configuration's preset selects. Weights of one never fit another.

    Raises:
        UsageError: The preset is not registered.
    """
    _require(config.preset)
    return _PURPOSES[config.preset].architecture


def _require(name: str) -> None:
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1) or sorted(PRESETS)
        raise UsageError(
            f"there is no preset {name}: use {' or '.join(near)}, or import the module that registers it first"
        )


def check_sample_rate(config: Config, sample_rate_hz: int) -> None:
    """Raise if a preset is made for other sample rates than that of the data, unless its hop was changed.

    Raises:
        CommandError: It is (exit code 2).
    """
    preset = config.preset
    low_hz, high_hz = _PURPOSES[preset].sample_rates_hz
    is_adapted = config.hop_samples != PRESETS[preset].hop_samples
    if _is_for(preset, sample_rate_hz) or is_adapted:
        return
    other = next((name for name in ("wave", "wave-22khz") if _is_for(name, sample_rate_hz)), "")
    advice = other and f"use `preset` {other}, or "
    raise UsageError(
        f"`preset` {preset} is made for {low_hz:,} to {high_hz:,} Hz, and the dataset is at {sample_rate_hz:,} Hz: "
        f"{advice}preprocess with `sample_rate_hz` {_PURPOSES[preset].usual_rate_hz}",
    )


def _is_for(preset: str, sample_rate_hz: int) -> bool:
    low_hz, high_hz = _PURPOSES[preset].sample_rates_hz
    return low_hz <= sample_rate_hz <= high_hz


_OWN: frozenset[str] = frozenset()
# The transform of these models has the right resolution only at low rates.
LOW_RATES_HZ = (1_000, 12_000)

# For the demo: four minutes on two cores with about fifty clips.
register_preset(
    Config(
        preset="tiny",
        epochs=12,
        generation_share=0.4,
        adversarial_weight=0.3,
        level_weight=1.0,
        magnitude_noise_scale=0.7,
        past_dropout=0.3,
        phrase_beats=16,
        beat_emphasis=3.0,
        batch_size=4,
        learning_rate=3e-3,
        channels=96,
        prior_units=128,
        coefficient_model_units=32,
    ),
    sample_rates_hz=LOW_RATES_HZ,
)
register_preset(Config(), sample_rates_hz=LOW_RATES_HZ)  # wave
# The whole band of GTZAN: frames and steps as long as those of `wave`, and windows half as long, for the time.
register_preset(
    Config(
        preset="wave-22khz",
        epochs=24,
        generation_share=0.1,
        batch_size=4,
        crop_samples=1_048_576,
        decoded_samples=61_440,
        crops_per_clip=4,
        sequence_latent_dim=24,
        sparse_coefficients=112,
        residual_noise_scale=0.3,
        hop_samples=1_024,
        prior_units=320,
        coefficient_model_units=24,
    ),
    sample_rates_hz=(12_000, 48_000),
    usual_rate_hz=22_050,
)
# Meant for a day on one GPU at 22,050 Hz: crops of the same duration, and a larger model.
register_preset(
    Config(
        preset="wave-large",
        epochs=200,
        batch_size=16,
        crop_samples=1_048_576,
        decoded_samples=131_072,
        crops_per_clip=4,
        learning_rate=5e-4,
        latent_dim=64,
        sequence_latent_dim=32,
        sparse_coefficients=112,
        hop_samples=1_024,
        channels=512,
        prior_units=768,
        prior_mixtures=16,
        coefficient_model_units=96,
        ema_decay=0.999,
    ),
    sample_rates_hz=(12_000, 48_000),
    usual_rate_hz=22_050,
)
# The notebook's settings: whole clips as one time step, two latent values, no annealing, no clipping. Its model has no
# notion of time, and takes any rate.
register_preset(
    Config(
        preset="reference",
        epochs=20,
        generation_share=0.0,
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
    REFERENCE,
)
_OWN = frozenset(PRESETS)
