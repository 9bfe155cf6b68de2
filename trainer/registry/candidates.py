"""The candidates of a folder of models: their names, what they start from, and which of them stay."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from datetime import UTC, datetime
from typing import Any

from preprocessing.dataset.manifest import Manifest
from preprocessing.errors import USAGE, CommandError
from preprocessing.storage import lease
from trainer import run_config
from trainer.config import Config
from trainer.registry import champion as champions
from trainer.registry.champion import Champion
from trainer.run_config import RunConfig
from trainer.runs.champion_pointer import CANDIDATE_NAME, CANDIDATES, candidate_uri, join
from trainer.runs.directory import POINTER
from trainer.runs.storage import Folder, is_remote

_NEVER = datetime.min.replace(tzinfo=UTC)


def identity(config: Config) -> dict[str, Any]:
    """The settings that a result depends on."""
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in Config.operational_fields()
    }


def weights_fit(one: RunConfig, other: RunConfig) -> bool:
    """Whether a run's weights can be another's: the same shapes, and each column means the same."""
    return _shape(one) == _shape(other)


def _shape(run: RunConfig) -> tuple:
    config, metadata = run.config, run.dataset
    kind = config.preset == "reference"
    data = (metadata.sample_rate_hz, metadata.clip_samples, metadata.genres, tuple(metadata.attributes))
    return (kind, *(getattr(config, name) for name in Config.weight_shape_fields()), *data)


def name_of(config: Config, digest: str, start: str | None) -> str:
    """A function of all that a candidate depends on, so that one that was interrupted is found again.

    Args:
        config: Its settings; those that change no bit of the result do not count.
        digest: Of its dataset.
        start: The candidate whose weights it begins with, if any.
    """
    depends = json.dumps([identity(config), digest, start], sort_keys=True)
    return f"{digest[:12]}-{hashlib.sha256(depends.encode()).hexdigest()[:12]}"


def is_same_work(champion: Champion, config: Config, digest: str) -> bool:
    """Whether the champion was trained on this dataset with this configuration."""
    own = {name: value for name, value in champion.config.items() if name not in Config.operational_fields()}
    # As JSON has it, which knows no tuples.
    wanted = json.loads(json.dumps(identity(config)))
    return champion.dataset["digest"] == digest and own == wanted


def can_start_from(models: str, champion: Champion, config: Config, manifest: Manifest, uri: str) -> bool:
    """Whether the champion's weights fit a candidate."""
    where = join(candidate_uri(models, champion.candidate), run_config.CONFIG_NAME)
    described = Folder(candidate_uri(models, champion.candidate)).read(run_config.CONFIG_NAME)
    if described is None:
        return False
    return weights_fit(
        run_config.parse(described, where), RunConfig(config, run_config.metadata_of(manifest, uri))
    )


def prune(models: str, keep: int) -> list[str]:
    """Deletes all but the `keep` newest candidates; returns the names of those that went.

    The champion stays, and those that a roll-back can reach, and one that another process holds.
    """
    folder = Folder(join(models, CANDIDATES))
    there = {name.partition("/")[0] for name in folder.list()}
    ages = {name: _worked_on(folder, name) for name in there if CANDIDATE_NAME.fullmatch(name)}
    newest_first = sorted(ages, key=lambda name: (ages[name], name), reverse=True)
    return [name for name in newest_first[keep:] if _delete(models, name)]


def _worked_on(folder: Folder, name: str) -> datetime:
    """When a candidate's last checkpoint was written, or else when it was begun."""
    times = (folder.updated(f"{name}/{file}") for file in (POINTER, run_config.CONFIG_NAME))
    return next((time for time in times if time is not None), _NEVER)


def _delete(models: str, name: str) -> bool:
    """Deletes a candidate that is nobody's, its checkpoint's pointer first; whether it went."""
    uri = candidate_uri(models, name)
    if lease.owner(uri):
        return False
    try:
        with lease.hold(uri):
            # Read while it is held: nobody can promote it from here on.
            if name in champions.read(models).kept:
                return False
            files = Folder(uri)
            for file in sorted(files.list(), key=lambda file: file != POINTER):
                if file != lease.NAME:
                    files.delete(file)
    except CommandError as error:
        if error.exit_code != USAGE:
            raise
        return False  # another process was quicker
    if not is_remote(uri):
        shutil.rmtree(uri, ignore_errors=True)
    return True
