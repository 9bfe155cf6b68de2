"""Takes: each `generate` writes a folder of its own, with the recipe by which its bits can be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.errors import DataError, UsageError
from trainer.generation.generator import Generator
from trainer.generation.options import Options
from trainer.generation.sources import SourceClip
from trainer.reporting import wav
from trainer.run_config import this_program
from trainer.runs.storage import StorageFolder, is_remote

RECIPE_NAME = "recipe.json"  # of a take
DIGITS = 6  # of a recipe's digest in the name of a take


class Recipe(NamedTuple):
    """Everything that the bits of a take depend on."""

    program: str  # name and version
    run: str
    checkpoint: str  # its name, which ends with the step, or with the epoch if it is the best one
    checkpoint_sha256: str
    options: dict[str, Any]  # the fields of `Options`
    sources: list[str]  # SHA-256 of each source clip: of the user's file, or of the samples

    def to_json(self) -> str:
        """Serialize to indented JSON."""
        return json.dumps(self._asdict(), indent=2) + "\n"

    def to_comment(self, clip: dict[str, Any]) -> str:
        """Serialize for the comment of one clip's WAV file, with the clip's entry in `music.json`."""
        return json.dumps({"clip": clip, **self._asdict()})


def make_recipe(run: str, generator: Generator, sources: Sequence[SourceClip], options: Options) -> Recipe:
    """Describe what a run, as the user named it, generates from source clips with some options."""
    digests = [source.sha256() for source in sources]
    checkpoint, digest = generator.checkpoint, generator.checkpoint_sha256
    return Recipe(this_program(), run, checkpoint, digest, dataclasses.asdict(options), digests)


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a take, given its file, the folder of the take or one of its WAV files.

    Raises:
        CommandError: There is none (exit code 3), or it is corrupt (2).
    """
    if is_remote(str(path).replace(":/", "://", 1)):
        raise UsageError(f"`like` {path}: copy the take from the bucket first, and name the copy")
    file = path / RECIPE_NAME if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"`like` {path}: there is no {RECIPE_NAME}: name a take that generate wrote")
    try:
        content = file.read_bytes()
        fields = json.loads(wav.read_comment(file) if content.startswith(b"RIFF") else content)
        fields.pop("clip", None)
        recipe = Recipe(**fields)
        Options(**recipe.options)
        for name in ("modes", "sources"):
            recipe.options[name] = tuple(recipe.options[name])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"`like` {path} is not the recipe of a take of this version ({error})") from error
    return recipe


def check_inputs(recipe: Recipe, current: Recipe, same_checkpoint: bool) -> None:
    """Raise if what a take was made of has changed since (exit code 3).

    Args:
        recipe: Of the take.
        current: Of what is generated now.
        same_checkpoint: Whether the run must still have the take's checkpoint.
    """
    if same_checkpoint and recipe.checkpoint_sha256 != current.checkpoint_sha256:
        raise DataError(
            f"`like`: the take was made with the checkpoint {recipe.checkpoint} of {recipe.run}, which has "
            f"{current.checkpoint} now: give `run` to use that one",
        )
    chosen_by = ("sources", "data", "count", "genre")
    same_choice = all(recipe.options[name] == current.options[name] for name in chosen_by)
    if recipe.sources and current.sources and same_choice and recipe.sources != current.sources:
        names = ", ".join(recipe.options["sources"]) or recipe.options["data"] or recipe.run
        raise DataError(f"`like`: a source clip of the take has changed since it was made, in {names}")


def new_take(output: str, recipe: Recipe, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str:
    """Return the name of a take that `output` does not have yet: the time, and digits of the recipe's digest."""
    digest = hashlib.sha256(recipe.to_json().encode()).hexdigest()[:DIGITS]
    name = base = f"{now():%Y%m%dT%H%M%SZ}-{digest}"
    names = (
        {file.partition("/")[0] for file in StorageFolder(output).list_names()} if is_remote(output) else None
    )
    number = 1
    while name in names if names is not None else (Path(output) / name).exists():
        number += 1
        name = f"{base}-{number}"
    return name
