"""The command `generate`: load a run, choose source clips, generate in each mode, write a take."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from preprocessing.storage.atomic import write_atomically
from trainer.generation import takes
from trainer.generation.clip_files import write_clips
from trainer.generation.load import load
from trainer.generation.modes import GeneratedClips, generate_all
from trainer.generation.options import Options
from trainer.generation.sources import choose_sources
from trainer.generation.takes import Recipe
from trainer.runs.storage import GcsPrefix, is_remote


def generate(
    run: str,
    output: str,
    cache: Path,
    options: Options,
    like: Recipe | None = None,
    same_checkpoint: bool = True,
) -> list[str]:
    """Write a take: a folder of WAV files and pictures for each mode, `music.json` and `recipe.json`.

    Args:
        run: A run or a folder of models, local or `gs://`.
        output: The folder of takes, local or `gs://`. What is in it stays as it is.
        cache: A local folder for copies of remote runs.
        options: What to generate.
        like: The recipe of a take whose source clips must be the same.
        same_checkpoint: Whether its checkpoint must be, too.

    Returns:
        The names of the WAV files, relative to `output`.

    Raises:
        CommandError: A mode, genre, attribute or key is unknown (exit code 2), there is no run or no data, or the run
            has another checkpoint than `like`, or a source file has changed (3), or storage failed (4).
    """
    generator = load(run, options.checkpoint, cache)
    sources = choose_sources(generator, options, cache)
    recipe = takes.make_recipe(run, generator, sources, options)
    if like is not None:
        takes.check_inputs(like, recipe, same_checkpoint)
    if not is_remote(output):
        _check_writable(Path(output))  # before minutes of work
    generated = list(generate_all(generator, sources, options))
    return write_take(output, generated, recipe, generator.sample_rate_hz)


def _check_writable(folder: Path) -> None:
    """Raise `OSError` if a folder cannot be made or written to."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(existing))


def write_take(
    output: str,
    generated: Sequence[GeneratedClips],
    recipe: Recipe,
    sample_rate_hz: int,
    pictures: bool = True,
) -> list[str]:
    """Write generated clips as a new take in `output`; return the names of the WAV files, relative to `output`."""
    take = takes.new_take(output, recipe)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if is_remote(output) else Path(output) / take
        rate_hz = recipe.options["output_rate_hz"]
        names = write_clips(folder, generated, sample_rate_hz, rate_hz, recipe, pictures)
        write_atomically(folder / takes.RECIPE_NAME, recipe.to_json())
        if is_remote(output):
            files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            GcsPrefix(f"{output.rstrip('/')}/{take}").upload(files, folder)
    return [f"{take}/{name}" for name in names]
