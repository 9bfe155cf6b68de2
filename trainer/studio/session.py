"""What the page works with: a loaded run, its source clips, and the folder of takes."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import CommandError, DataError, UsageError
from preprocessing.storage.atomic import write_atomically
from trainer.generation import takes
from trainer.generation.generate import write_take
from trainer.generation.load import load, load_baseline
from trainer.generation.modes import generate_mode
from trainer.generation.options import Options as GenerationOptions
from trainer.generation.source_files import read_source_file
from trainer.generation.sources import SourceClip, choose_sources, dataset_clips, fit_length, read_test_clips
from trainer.runs.directory import LISTENING, MUSIC
from trainer.runs.storage import is_remote
from trainer.studio.options import Options

MAX_MAP_CLIPS = 200
SOURCES = "sources"  # in the folder of takes: copies of uploaded files
STARRED = "starred"  # an empty file in a take


class Session:
    """A loaded run and the folder of takes; one model at work at a time.

    Attributes:
        generator: The run.
        baseline: Another run for the listening test, or None.
        test_clips: Real clips to start from, of the dataset if one was named, else the run's fixed test clips.
        votes_path: Where the listening test appends its votes: in the run, or in the folder of takes for a remote
            run or a folder of models.
    """

    def __init__(self, options: Options, cache: Path) -> None:
        """Load the run.

        Raises:
            CommandError: The folder of takes is remote or a file (exit code 2), there is no run or no data (3), or
                storage failed (4).
        """
        if is_remote(str(options.output)) or options.output.is_file():
            raise UsageError(f"`output` {options.output} must be a local folder")
        # Recipes name the copies of uploads, wherever a take is made again.
        self.options = dataclasses.replace(options, output=options.output.resolve())
        self.generator = load(options.run, cache=cache)
        run = options.baseline_run
        self.baseline = load_baseline(run, self.generator, cache) if run else None
        self.test_clips = read_test_clips(self.generator, options.data, cache)
        self._cache = cache
        local_run = not is_remote(options.run) and (Path(options.run) / CONFIG_NAME).exists()
        self.votes_path = (Path(options.run) if local_run else self.options.output) / LISTENING
        self.model_lock = threading.Lock()

    def warm_up(self) -> None:
        """Generate once, so that the first click does not wait for TensorFlow."""
        if "prior" not in self.generator.model.capabilities.modes:
            return
        with self.model_lock:
            self.generator.sample(8 if self.generator.model.capabilities.conditional else 1)

    def map_clips(self) -> list[SourceClip]:
        """Return clips of all splits of the dataset, if one was named, else the run's fixed test clips."""
        if self.options.data is None:
            return self.test_clips
        rate_hz = self.generator.sample_rate_hz
        return dataset_clips(self.options.data, self._cache, rate_hz, SPLITS, MAX_MAP_CLIPS)

    def make_take(self, options: GenerationOptions) -> str:
        """Generate in the one mode of `options` and write a take; return its name.

        The same options give the same bits as `generate` and the methods of `Generator`.

        Raises:
            CommandError: An option is out of range, or a file is no recording.
        """
        if options.modes != ("prior",) and not options.sources:
            raise UsageError("choose a clip, upload a file or record one")
        sources = choose_sources(self.generator, options, self._cache, self.test_clips)
        with self.model_lock:
            generated = generate_mode(self.generator, options.modes[0], sources, options)
        recipe = takes.make_recipe(self.options.run, self.generator, sources, options)
        names = write_take(
            str(self.options.output), [generated], recipe, self.generator.sample_rate_hz, pictures=False
        )
        return names[0].partition("/")[0]

    def keep_upload(self, path: str) -> str:
        """Copy an uploaded file beside the takes, so that a take can be made again; return the copy's path.

        Raises:
            CommandError: It is too short (exit code 2), or no recording (3).
        """
        file = read_source_file(path, self.generator.sample_rate_hz)
        try:
            fit_length(self.generator, file.audio)
        except UsageError as error:
            raise UsageError(f"the recording is too short: {error}") from error
        folder = self.options.output / SOURCES
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / f"{file.sha256[:12]}-{Path(path).name}"
        if not copy.exists():
            write_atomically(copy, Path(path).read_bytes())
        return str(copy)

    def takes(self) -> list[str]:
        """List the takes, starred ones first, then the newest."""
        folders = [path.parent for path in self.options.output.glob(f"*/{takes.RECIPE_NAME}")]
        names = sorted((folder.name for folder in folders if (folder / MUSIC).exists()), reverse=True)
        return sorted(names, key=lambda name: not self.is_starred(name))

    def entries(self, take: str) -> list[dict[str, Any]]:
        """Return the entries of a take's `music.json`, at least one.

        Raises:
            CommandError: The take is gone (exit code 3).
        """
        entries: list[dict[str, Any]] = self._read(take, MUSIC)
        if not entries:
            raise DataError(f"the take {take} has no clips")
        return entries

    def recipe(self, take: str) -> dict[str, Any]:
        """Return a take's recipe; raises as `entries`."""
        recipe: dict[str, Any] = self._read(take, takes.RECIPE_NAME)
        return recipe

    def is_starred(self, take: str) -> bool:
        """Tell whether a take has a star."""
        return (self.options.output / take / STARRED).exists()

    def set_star(self, take: str, starred: bool) -> None:
        """Give a take a star, or take it away; raises as `entries`."""
        self.recipe(take)  # refuses a take that is gone
        path = self.options.output / take / STARRED
        if starred:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def _read(self, take: str, name: str) -> Any:
        try:
            return json.loads((self.options.output / take / name).read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"the take {take} is gone, or no take of this program ({error})") from error


def describe(error: CommandError) -> str:
    """Return the message of an error for the page."""
    return str(error).replace("`", "")
