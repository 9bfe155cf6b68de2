"""`config.json`: a run's configuration, its dataset and the program that trained it. Standard library only."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from preprocessing.dataset.manifest import Manifest, Statistics
from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import UsageError
from preprocessing.storage.atomic import write_atomically
from trainer.config import Config
from trainer.presets import find_preset

PROGRAM = "gtzan-cvae"
UNKNOWN_PROGRAM = "unknown"  # of a run that a program trained which did not store its version
PROVENANCE_FIELDS = ("dataset", "ancestor_datasets", "program")  # of `config.json`, beside the settings


def this_program() -> str:
    """Return the name and the version of this program, such as "gtzan-cvae 0.1.0"."""
    return f"{PROGRAM} {metadata.version(PROGRAM)}"


@dataclass(frozen=True)
class DatasetMetadata:
    """What a run stores about its training dataset."""

    uri: str
    digest: str
    sample_rate_hz: int
    clip_samples: int
    genres: tuple[str, ...]
    attributes: dict[str, Statistics]  # of the training split, in the order of a condition's columns
    keys: tuple[str, ...]  # those that training clips have, in the order of `preprocessing.dataset.keys.KEYS`
    empirical_conditions: list[
        dict[str, str | float | None]
    ]  # genre, attributes and key of some training clips
    counts: dict[str, dict[str, int]]  # clips by split and genre


def metadata_of(manifest: Manifest, uri: str) -> DatasetMetadata:
    """Extract the metadata that a run stores from its dataset's manifest."""
    return DatasetMetadata(
        uri=uri,
        digest=manifest.digest,
        sample_rate_hz=manifest.sample_rate_hz,
        clip_samples=manifest.clip_samples,
        genres=tuple(manifest.genres),
        attributes=dict(sorted(manifest.attributes.items())),
        keys=tuple(manifest.keys),
        empirical_conditions=manifest.empirical_conditions,
        counts=manifest.counts,
    )


@dataclass(frozen=True)
class RunConfig:
    """Content of `config.json`."""

    config: Config
    dataset: DatasetMetadata
    ancestor_datasets: tuple[str, ...] = ()  # digests of those that the initial weights were trained on
    program: str = field(default_factory=this_program)  # name and version of the one that trained last

    def to_json(self) -> str:
        """Serialize to the settings at the top level, beside what else the run stores."""
        fields = {
            **dataclasses.asdict(self.config),
            "dataset": dataclasses.asdict(self.dataset),
            "ancestor_datasets": self.ancestor_datasets,
            "program": self.program,
        }
        return json.dumps(fields, indent=2) + "\n"

    def descendant_datasets(self) -> tuple[str, ...]:
        """Return the `ancestor_datasets` of a run that starts from this one's weights."""
        return tuple(dict.fromkeys((*self.ancestor_datasets, self.dataset.digest)))


def save(run: RunConfig, folder: Path) -> None:
    """Write a run directory's `config.json`, atomically."""
    write_atomically(folder / CONFIG_NAME, run.to_json())


def load(folder: Path) -> RunConfig | None:
    """Read a run directory's `config.json`; None if there is none.

    Raises:
        CommandError: The file is corrupt or of another version of the program (exit code 2).
    """
    path = folder / CONFIG_NAME
    return parse(path.read_bytes(), str(path)) if path.exists() else None


def parse(content: bytes, uri: str) -> RunConfig:
    """Parse the content of `config.json`; error messages refer to the file as `uri`.

    Raises:
        CommandError: The content is corrupt or of another version of the program (exit code 2).
    """
    try:
        fields = json.loads(content)
        dataset, ancestors = fields.pop("dataset"), fields.pop("ancestor_datasets")
        program = fields.pop("program", UNKNOWN_PROGRAM)
        dataset["genres"], dataset["keys"] = tuple(dataset["genres"]), tuple(dataset["keys"])
        dataset["attributes"] = {
            name: Statistics(**statistics) for name, statistics in dataset["attributes"].items()
        }
        return RunConfig(Config(**fields), DatasetMetadata(**dataset), tuple(ancestors), str(program))
    except (UsageError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{uri} cannot be read ({error}): use a new `run`") from error


def resolve(given: dict[str, Any], saved: Config | None) -> Config:
    """Resolve a run's configuration: the saved one, or else the preset's, overridden by `given`.

    Args:
        given: Fields that the user sets.
        saved: The configuration of the run that is resumed, or None for a new run.

    Raises:
        CommandError: A field is unknown, invalid, or contradicts the saved configuration (exit code 2).
    """
    for name in given.keys() - {*Config.names()}:
        near = difflib.get_close_matches(name, Config.names(), n=1)
        raise UsageError(f"there is no setting {name}{': did you mean ' + near[0] + '?' if near else ''}")
    if saved is None:
        return dataclasses.replace(find_preset(given.get("preset", Config.preset)), **given)
    for name, value in given.items():
        saved_value, setting = getattr(saved, name), Config.setting(name)
        allowed = setting.operational or (setting.extendable and value >= saved_value)
        if value != saved_value and not allowed:
            raise UsageError(
                f"`{name}` {value} contradicts the run's {CONFIG_NAME}, which has {saved_value}: "
                "leave it out to resume the run, or use a new `run`",
            )
    return dataclasses.replace(saved, **given)
