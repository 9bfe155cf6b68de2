"""What a run is: one frozen dataclass, its presets, its checks, and its JSON. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.errors import USAGE, CommandError

NAME = "config.json"
MAX_SEED = 2**31 - 1


def _setting(default: Any, reason: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": reason})


@dataclass(frozen=True)
class Config:
    """A run's settings; the defaults are the preset `wave`. Each has its reason, which `--help` prints."""

    preset: str = _setting("wave", "the model: wave, or seed, the reference notebook's")
    epochs: int = _setting(20, "passes over the training split")
    batch_size: int = _setting(8, "crops per step, over all replicas; small, for many steps on few clips")
    learning_rate: float = _setting(1e-3, "step size of Adam")
    latent_dim: int = _setting(8, "latent values: of wave per frame, of seed per clip")
    crop_samples: int = _setting(2_048, "samples of a training example; 0: the whole clip")
    strides: tuple[int, ...] = _setting((8, 4), "down-sampling of wave's encoder; 32 samples make a frame")
    channels: tuple[int, ...] = _setting((64, 128), "width of wave after each stride")
    beta: float = _setting(0.1, "weight of the KL term after its warm-up; 1 is the ELBO, less is clearer")
    beta_warmup_epochs: float = _setting(5.0, "epochs over which beta grows from 0, lest latents collapse")
    free_bits: float = _setting(0.05, "nats per latent value and frame that the KL term leaves alone")
    genre_dropout: float = _setting(
        0.1, "part of the crops whose genre wave is not told, so that it can do without"
    )
    gradient_clip_norm: float = _setting(0.0, "largest global norm of a step's gradient; 0: no limit")
    seed: int = _setting(0, "of weights, data order, noise and the fixed latents")
    sample_clips: int = _setting(4, "test clips and latents that are rendered each epoch")
    checkpoints_to_keep: int = _setting(3, "newest checkpoints that stay")

    def __post_init__(self) -> None:
        at_least = {
            "epochs": 1,
            "batch_size": 1,
            "latent_dim": 1,
            "crop_samples": 0,
            "beta": 0,
            "beta_warmup_epochs": 0,
            "free_bits": 0,
            "gradient_clip_norm": 0,
            "genre_dropout": 0,
            "seed": 0,
            "sample_clips": 1,
            "checkpoints_to_keep": 1,
        }
        for name, low in at_least.items():
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise CommandError(f"{flag(name)} must be at least {low}, not {value}", USAGE)
        if self.seed > MAX_SEED:
            raise CommandError(f"--seed must be at most {MAX_SEED}, not {self.seed}", USAGE)
        if self.genre_dropout > 1:
            raise CommandError(f"--genre-dropout must be at most 1, not {self.genre_dropout}", USAGE)
        if not 0 < self.learning_rate < float("inf"):
            raise CommandError(f"--learning-rate must be above 0, not {self.learning_rate}", USAGE)
        if len(self.strides) != len(self.channels) or not self.strides:
            raise CommandError("--strides and --channels must name as many layers as each other", USAGE)
        if min(*self.strides, *self.channels, 1) < 1:
            raise CommandError("--strides and --channels must be at least 1", USAGE)

    def beta_at(self, epoch: float) -> float:
        """The KL term's weight after `epoch` epochs: linear warm-up (Bowman et al. 2016, section 3.1)."""
        return self.beta * min(1.0, epoch / self.beta_warmup_epochs) if self.beta_warmup_epochs else self.beta


PRESETS: dict[str, Config] = {
    "wave": Config(),
    # As its authors ran it: whole clips of one time step, a latent plane, no annealing.
    "seed": Config(
        preset="seed",
        learning_rate=3e-4,
        latent_dim=2,
        crop_samples=0,
        beta=1.0,
        beta_warmup_epochs=0.0,
        free_bits=0.0,
    ),
}

# What may differ from the run's own configuration when it is started again.
MAY_GROW = ("epochs",)


@dataclass(frozen=True)
class DatasetFacts:
    """What a run remembers of the dataset it was started on."""

    uri: str
    digest: str
    sample_rate_hz: int
    clip_samples: int
    genres: tuple[str, ...]
    counts: dict[str, int]  # split -> clips


@dataclass(frozen=True)
class Run:
    """A run's whole description, as `config.json` holds it."""

    config: Config
    dataset: DatasetFacts

    def to_json(self) -> str:
        """Flat settings and a `dataset` object."""
        fields = {**dataclasses.asdict(self.config), "dataset": dataclasses.asdict(self.dataset)}
        return json.dumps(fields, indent=2) + "\n"


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def load(folder: Path) -> Run | None:
    """Reads a run directory's `config.json`; None if there is none.

    Raises:
        CommandError: It is damaged or of another version of the program (exit code 2).
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text())
        dataset = fields.pop("dataset")
        dataset["genres"] = tuple(dataset["genres"])
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return Run(Config(**fields), DatasetFacts(**dataset))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{path} cannot be read ({error}): use a new --run", USAGE) from error


def resolve(given: dict[str, Any], earlier: Config | None) -> Config:
    """The configuration of this start: the run's own where there is one, else the preset; then the flags.

    Raises:
        CommandError: A flag contradicts the run's own configuration (exit code 2).
    """
    if earlier is None:
        return dataclasses.replace(PRESETS[given.get("preset", "wave")], **given)
    for name, value in given.items():
        own = getattr(earlier, name)
        grows = name in MAY_GROW and value >= own
        if value != own and not grows:
            raise CommandError(
                f"{flag(name)} {value} contradicts the run's {NAME}, which has {own}: "
                "leave the flag out to go on, or use a new --run",
                USAGE,
            )
    return dataclasses.replace(earlier, **given)
