"""Read settings from a YAML or JSON file, which may be a run's own `config.json`."""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

import yaml

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import DataError, UsageError
from trainer.config import Config
from trainer.run_config import PROVENANCE_FIELDS
from trainer.runs.storage import StorageFolder, is_remote
from trainer.setting import KINDS


def read_settings(uri: str) -> dict[str, Any]:
    """Read fields of `Config`.

    Args:
        uri: The file, local or `gs://`. In a run's `config.json`, what is no setting is ignored.

    Returns:
        The fields that the file has, with the types of `Config`; their limits are not checked.

    Raises:
        CommandError: The file is not readable, has an unknown field or a value of another type (exit code 2), does not
            exist (3), or storage failed (4).
    """
    if not is_remote(uri) and Path(uri).is_dir():
        raise UsageError(
            f"`config` {uri} is a folder: name a file of settings, or the {CONFIG_NAME} of a run"
        )
    folder, _, name = uri.rpartition("/")
    content = StorageFolder(folder or ("/" if uri.startswith("/") else ".")).read(name) if name else None
    if content is None:
        raise DataError(f"`config` {uri} does not exist: name a file of settings, or a run's {CONFIG_NAME}")
    fields = _parse(content, uri)
    if fields.keys() >= {"dataset", "ancestor_datasets"}:
        fields = {name: value for name, value in fields.items() if name not in PROVENANCE_FIELDS}
    return {name: _checked(name, value, uri) for name, value in fields.items()}


def settings_yaml(config: Config) -> str:
    """Format all fields as the content of such a file."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def _parse(content: bytes, uri: str) -> dict[str, Any]:
    try:
        try:
            fields = json.loads(content)
        except ValueError:
            fields = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"`config` {uri} is neither YAML nor JSON ({error})") from error
    if not isinstance(fields, dict):
        raise UsageError(f"`config` {uri} must have a name and a value in each line, such as epochs: 20")
    return {str(name): value for name, value in fields.items()}


def _checked(name: str, value: Any, uri: str) -> Any:
    """Return the value with the type of its field."""
    if name not in Config.names():
        (nearest,) = difflib.get_close_matches(name, Config.names(), n=1, cutoff=0)
        raise UsageError(f"`config` {uri} has the unknown field {name}: the nearest one is {nearest}")
    kind = type(Config.__dataclass_fields__[name].default)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    if type(value) is not kind:
        raise UsageError(
            f"`config` {uri}: {name} must be {KINDS[kind]}, not {json.dumps(value, default=str)}"
        )
    return value
