"""The candidates in a folder of models: names, compatibility of weights, and pruning."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import CommandError, UsageError
from preprocessing.storage import lease
from preprocessing.storage.local_folders import delete_empty_folders
from trainer.config import Config
from trainer.presets import architecture
from trainer.registry import champion as champions
from trainer.registry.champion import Champion
from trainer.registry.promotion import PROMOTED
from trainer.run_config import RunConfig, metadata_of, parse
from trainer.runs.champion_pointer import CANDIDATE_NAME, CANDIDATES, candidate_uri, join
from trainer.runs.directory import POINTER, PROMOTION
from trainer.runs.status import is_complete
from trainer.runs.storage import StorageFolder

_NEVER_MODIFIED = datetime.min.replace(tzinfo=UTC)


def candidate_name(config: Config, digest: str, init_from: str | None) -> str:
    """Derive a candidate's name from everything it depends on, so that an interrupted training is resumed.

    Args:
        config: The candidate's settings; operational ones do not count.
        digest: Digest of the candidate's dataset.
        init_from: The candidate whose weights it starts from; None: random weights.
    """
    inputs = json.dumps([result_settings(config), digest, init_from], sort_keys=True)
    return f"{digest[:12]}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"


def result_settings(config: Config) -> dict[str, Any]:
    """Return the settings that the result of a training depends on."""
    return _without_operational(dataclasses.asdict(config))


def was_trained_on(champion: Champion, config: Config, digest: str) -> bool:
    """Return whether the champion was trained on this dataset with this configuration."""
    settings = json.loads(json.dumps(result_settings(config)))  # tuples become lists, as in champion.json
    return champion.dataset["digest"] == digest and _without_operational(champion.config) == settings


def can_start_from(models: str, champion: Champion, config: Config, manifest: Manifest, uri: str) -> bool:
    """Return whether a candidate can start from the champion's weights."""
    folder = candidate_uri(models, champion.candidate)
    content = StorageFolder(folder).read(CONFIG_NAME)
    if content is None:
        return False
    return have_same_weights_shape(
        parse(content, join(folder, CONFIG_NAME)), RunConfig(config, metadata_of(manifest, uri))
    )


def have_same_weights_shape(first: RunConfig, second: RunConfig) -> bool:
    """Return whether two runs' weights have the same shapes and the same meaning."""
    return _weights_shape(first) == _weights_shape(second)


def list_unfinished(models: str, config: Config, champion: str | None) -> list[tuple[str, str]]:
    """Return the candidates with these settings about which nothing has been decided, with their datasets' digests.

    One that was to follow `champion`, the name of the present one, is among them: the job ended before it did.
    """
    folder = StorageFolder(join(models, CANDIDATES))
    files = set(folder.list_names())
    unfinished = []
    for name in sorted({file.partition("/")[0] for file in files}):
        content = folder.read(f"{name}/{CONFIG_NAME}") if CANDIDATE_NAME.fullmatch(name) else None
        if content is None or _is_decided(folder.read(f"{name}/{PROMOTION}"), champion):
            continue
        with contextlib.suppress(CommandError):  # of another version of this program
            saved = parse(content, join(candidate_uri(models, name), CONFIG_NAME))
            if result_settings(saved.config) == result_settings(config):
                unfinished.append((name, saved.dataset.digest))
    return unfinished


def _is_decided(promotion: bytes | None, champion: str | None) -> bool:
    """Return whether a decision was made, and carried out; `promotion` is the content of `PROMOTION`."""
    if promotion is None:
        return False
    decision = json.loads(promotion)
    return decision["decision"] != PROMOTED or decision["champion"] != champion


def is_in_use(models: str, name: str) -> bool:
    """Return whether another process works on a candidate; on `gs://`, wait until the lease of a dead one expires."""
    try:
        with lease.acquire(candidate_uri(models, name)):
            return False
    except UsageError:
        return True


def delete_incomplete(models: str, name: str) -> bool:
    """Delete a candidate that is not completely trained and not in use; return whether it was deleted."""
    return not is_complete(candidate_uri(models, name)) and _delete(models, name)


def prune(models: str, max_candidates: int) -> list[str]:
    """Delete all but the newest candidates and return the names of the deleted ones.

    The champion, the candidates that a rollback can reach, and those that another process uses are kept.
    """
    folder = StorageFolder(join(models, CANDIDATES))
    names = {name.partition("/")[0] for name in folder.list_names()}
    times = {name: _last_modified(folder, name) for name in names if CANDIDATE_NAME.fullmatch(name)}
    newest_first = sorted(times, key=lambda name: (times[name], name), reverse=True)
    return [name for name in newest_first[max_candidates:] if _delete(models, name)]


def _without_operational(settings: dict[str, Any]) -> dict[str, Any]:
    operational = Config.operational_fields()
    return {name: value for name, value in settings.items() if name not in operational}


def _weights_shape(run: RunConfig) -> tuple[object, ...]:
    config, dataset = run.config, run.dataset
    settings = (getattr(config, name) for name in Config.weight_shape_fields())
    data = (dataset.sample_rate_hz, dataset.clip_samples, dataset.genres, tuple(dataset.attributes))
    return (architecture(config), *settings, *data)


def _last_modified(folder: StorageFolder, name: str) -> datetime:
    """Return when a candidate's last checkpoint was written, or else when its training began."""
    times = (folder.updated(f"{name}/{file}") for file in (POINTER, CONFIG_NAME))
    return next((time for time in times if time is not None), _NEVER_MODIFIED)


def _delete(models: str, name: str) -> bool:
    """Delete a candidate that is not in use, its checkpoint's pointer first; return whether it was deleted."""
    uri = candidate_uri(models, name)
    if lease.holder(uri):
        return False
    try:
        with lease.acquire(uri):
            # Read under the lease: from here on, no other process can promote the candidate.
            if name in champions.read(models).protected:
                return False
            folder = StorageFolder(uri)
            for file in sorted(folder.list_names(), key=lambda file: file != POINTER):
                if file != lease.LEASE_NAME:
                    folder.delete(file)
    except UsageError:
        return False  # another process has acquired the lease
    delete_empty_folders(uri)  # whoever holds the lease by now has files in them
    return True
