"""Takes: each `generate` writes a folder of its own, with the recipe by which its bits can be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.errors import DataError, UsageError
from trainer.generation.options import Options
from trainer.runs.directory import CHECKPOINTS, POINTER, newest_checkpoint
from trainer.runs.storage import StorageFolder

RECIPE_NAME = "recipe.json"  # of a take
DIGITS = 6  # of a recipe's digest in the name of a take


class Recipe(NamedTuple):
    """Everything that the bits of a take depend on."""

    program: str  # name and version
    run: str
    checkpoint: str  # name of the checkpoint, which ends with its step
    checkpoint_sha256: str
    options: dict[str, Any]  # the fields of `Options`

    def to_json(self) -> str:
        """Serialize to indented JSON."""
        return json.dumps(self._asdict(), indent=2) + "\n"


def make_recipe(run: str, local_run: Path, options: Options) -> Recipe:
    """Describe what a run's newest checkpoint generates with some options.

    Args:
        run: As the user named it.
        local_run: Its local directory, which has a checkpoint.
        options: What to generate.
    """
    name = newest_checkpoint((local_run / POINTER).read_bytes()) or ""
    digest = hashlib.sha256()
    for path in sorted((local_run / CHECKPOINTS).glob(f"{name}.*")):
        digest.update(path.read_bytes())
    program = f"gtzan-cvae {metadata.version('gtzan-cvae')}"
    return Recipe(program, run, name, digest.hexdigest(), dataclasses.asdict(options))


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a take, given its file or the folder of the take.

    Raises:
        CommandError: There is none (exit code 3), or it is corrupt (2).
    """
    file = path / RECIPE_NAME if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"`like` {path}: there is no {RECIPE_NAME}: name a take that generate wrote")
    try:
        recipe = Recipe(**json.loads(file.read_bytes()))
        Options(**recipe.options)
        recipe.options["modes"] = tuple(recipe.options["modes"])
    except (ValueError, TypeError) as error:
        raise UsageError(f"`like` {path} is not the recipe of a take of this version ({error})") from error
    return recipe


def check_checkpoint(recipe: Recipe, current: Recipe) -> None:
    """Raise if the run has another checkpoint than when a take was made (exit code 3)."""
    if recipe.checkpoint_sha256 != current.checkpoint_sha256:
        raise DataError(
            f"`like`: the take was made with the checkpoint {recipe.checkpoint} of {recipe.run}, which has "
            f"{current.checkpoint} now: give `run` to use that one",
        )


def new_take(output: str, recipe: Recipe, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str:
    """Return the name of a take that `output` does not have yet: the time, and digits of the recipe's digest."""
    digest = hashlib.sha256(recipe.to_json().encode()).hexdigest()[:DIGITS]
    name = base = f"{now():%Y%m%dT%H%M%SZ}-{digest}"
    existing = {file.partition("/")[0] for file in StorageFolder(output).list_names()}
    number = 1
    while name in existing:
        number += 1
        name = f"{base}-{number}"
    return name
