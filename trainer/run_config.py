"""`config.json`: a run's configuration and what it remembers of its dataset. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.dataset.manifest import Manifest, Statistics
from preprocessing.errors import USAGE, CommandError
from trainer.config import Config, flag
from trainer.presets import PRESETS

NAME = "config.json"
# What may differ from the run's own configuration when it is started again: more of it, or anything, where it
# changes no bit of the result.
EXTENDABLE = ("epochs",)
OPERATIONAL = ("cache_mb", "checkpoint_secs", "checkpoints_to_keep", "max_rollbacks")


@dataclass(frozen=True)
class DatasetMetadata:
    """What a run remembers of the dataset it was started on."""

    uri: str
    digest: str
    sample_rate_hz: int
    clip_samples: int
    genres: tuple[str, ...]
    attributes: dict[str, Statistics]  # name -> over the training split; the order of a condition's columns
    empirical_conditions: list[dict[str, str | float | None]]  # genre and attributes of some training clips
    counts: dict[str, dict[str, int]]  # split -> genre -> clips


def metadata_of(manifest: Manifest, uri: str) -> DatasetMetadata:
    """What a run remembers of a dataset."""
    return DatasetMetadata(
        uri=uri,
        digest=manifest.digest,
        sample_rate_hz=manifest.sample_rate_hz,
        clip_samples=manifest.clip_samples,
        genres=tuple(manifest.genres),
        attributes=dict(sorted(manifest.attributes.items())),
        empirical_conditions=manifest.empirical_conditions,
        counts=manifest.counts,
    )


@dataclass(frozen=True)
class RunConfig:
    """A run's whole description, as `config.json` holds it."""

    config: Config
    dataset: DatasetMetadata

    def to_json(self) -> str:
        """Flat settings and a `dataset` object."""
        fields = {**dataclasses.asdict(self.config), "dataset": dataclasses.asdict(self.dataset)}
        return json.dumps(fields, indent=2) + "\n"


def save(run: RunConfig, folder: Path) -> None:
    """Writes a run directory's `config.json`, whole or not at all."""
    temporary = folder / f"{NAME}.tmp"
    temporary.write_text(run.to_json())
    temporary.replace(folder / NAME)


def load(folder: Path) -> RunConfig | None:
    """Reads a run directory's `config.json`; None if there is none.

    Raises:
        CommandError: It is damaged or of another version of the program (exit code 2).
    """
    path = folder / NAME
    return parse(path.read_bytes(), str(path)) if path.exists() else None


def parse(content: bytes, uri: str) -> RunConfig:
    """The inverse of `Run.to_json`; `uri` is only for the sentence.

    Raises:
        CommandError: It is damaged or of another version of the program (exit code 2).
    """
    try:
        fields = json.loads(content)
        dataset = fields.pop("dataset")
        dataset["genres"] = tuple(dataset["genres"])
        dataset["attributes"] = {name: Statistics(**of) for name, of in dataset["attributes"].items()}
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return RunConfig(Config(**fields), DatasetMetadata(**dataset))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{uri} cannot be read ({error}): use a new --run", USAGE) from error


def resolve(given: dict[str, Any], earlier: Config | None) -> Config:
    """The configuration of this start: the run's own where there is one, else the preset; then the flags.

    Raises:
        CommandError: A flag contradicts the run's own configuration (exit code 2).
    """
    if earlier is None:
        return dataclasses.replace(PRESETS[given.get("preset", "wave")], **given)
    for name, value in given.items():
        own = getattr(earlier, name)
        allowed = name in OPERATIONAL or (name in EXTENDABLE and value >= own)
        if value != own and not allowed:
            raise CommandError(
                f"{flag(name)} {value} contradicts the run's {NAME}, which has {own}: "
                "leave the flag out to go on, or use a new --run",
                USAGE,
            )
    return dataclasses.replace(earlier, **given)
