"""A run's directory: worked on locally, and mirrored to `gs://` by a background thread."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError
from preprocessing.storage import lease
from trainer import run_config
from trainer.runs.champion_pointer import resolve
from trainer.runs.mirror import Uploader
from trainer.runs.storage import GcsPrefix, is_remote

# The files and folders of a run, beside `trainer.run_config.CONFIG_NAME`.
METRICS = "metrics.jsonl"  # one line per epoch
ROLLBACKS = "rollbacks.jsonl"  # one line per return to an earlier checkpoint
REPORT = "report.html"  # written last, when all epochs are done
CHECKPOINTS = "checkpoints"
POINTER = f"{CHECKPOINTS}/checkpoint"  # names the newest checkpoint: readers start here
EVENTS = "events"  # of TensorBoard
SAMPLES = "samples"  # what each epoch renders
ORIGINALS = f"{SAMPLES}/originals"  # the fixed test clips
SAMPLE_CLIPS = f"{SAMPLES}/clips.json"  # names, genres and SNR of the fixed test clips
TRAINING_GIF = f"{SAMPLES}/training.gif"
GENERATED = "generated"  # music of the finished model
MUSIC = "music.json"  # in `generated` and in every output folder of `generate`: what each file is
EVALUATION = "evaluation"  # the last evaluation
EVALUATION_JSON = "evaluation.json"  # in `evaluation`
EVALUATION_MARKDOWN = "evaluation.md"  # in `evaluation`
COMPARISON = "comparison.html"  # of a candidate with the champion

READS = 5  # tries at a run that is being written


def working_copy(uri: str, cache: Path) -> Path:
    """The local directory of a run: itself, or for a remote one a folder in the cache."""
    return cache / "runs" / hashlib.sha256(uri.encode()).hexdigest()[:16] if is_remote(uri) else Path(uri)


def fetch_run(uri: str, cache: Path) -> Path:
    """A local copy of what generation needs of a run; a local run is returned as it is.

    A folder of models stands for its champion.

    A run that is training replaces its checkpoints: one that is gone by the time it is fetched is looked up
    again.

    Raises:
        CommandError: The run has no checkpoint (3), or storage failed (4).
    """
    uri = resolve(uri)
    if not is_remote(uri):
        return Path(uri)
    prefix = GcsPrefix(uri)
    for _ in range(READS):
        pointer = prefix.read(POINTER)
        if pointer is None:
            raise CommandError(f"--run {uri} has no checkpoint yet: train at least one epoch there", BAD_DATA)
        copy = cache / "read" / hashlib.sha256(uri.encode() + pointer).hexdigest()[:16]
        if copy.exists() or _download_run(prefix, pointer, copy):
            return copy
    raise CommandError(f"--run {uri} changed {READS} times while it was read: try again", STORAGE_FAILED)


def newest_checkpoint(pointer: bytes) -> str | None:
    """Return the name of the checkpoint in the content of `POINTER`, or None if it names none."""
    name = re.search(rb'"([^"]+)"', pointer)
    return name[1].decode() if name else None


def _download_run(prefix: GcsPrefix, pointer: bytes, copy: Path) -> bool:
    """Configuration, kept clips and the checkpoint that `pointer` names, into `copy`, as a whole or not.

    What a pointer names is deleted only after the pointer has moved, so what was read under one pointer is
    whole. Returns whether it was.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=copy.parent))
    try:
        newest = newest_checkpoint(pointer)
        if newest is None:
            return False
        wanted = (run_config.CONFIG_NAME, f"{CHECKPOINTS}/{newest}.", SAMPLE_CLIPS, f"{ORIGINALS}/")
        try:
            prefix.download([name for name in prefix.list_names() if name.startswith(wanted)], temporary)
        except CommandError:
            if prefix.read(POINTER) == pointer:
                raise
            return False
        if prefix.read(POINTER) != pointer:
            return False
        (temporary / POINTER).write_bytes(pointer)
        with contextlib.suppress(OSError):  # another reader was quicker
            temporary.rename(copy)
        return True
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class RunDirectory:
    """A run's local directory `path`, mirrored to `uri` if that is remote.

    Use as a context manager: leaving it waits for the last upload.
    """

    def __init__(self, uri: str, cache: Path) -> None:
        if not uri:
            raise CommandError("--run must not be empty", USAGE)
        self.uri = uri
        self.path = working_copy(uri, cache)
        self._mirror: Uploader | None = None
        if is_remote(uri):
            self._mirror = Uploader(
                self.path, GcsPrefix(uri), POINTER, upload_only=(EVENTS, lease.LEASE_NAME)
            )

    def __enter__(self) -> RunDirectory:
        if self.path.exists() and not self.path.is_dir():
            raise CommandError(f"--run {self.uri} is a file: name a directory", USAGE)
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            self._lease = held.enter_context(lease.acquire(self.uri, survives_outage=True))
            if self._mirror is not None:
                self._mirror.prefix.before_write = self._lease.check
                self._mirror.start()
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as held:
            held.push(self._held)
            if self._mirror is not None:
                try:
                    self._mirror.close()
                except CommandError:
                    # A stop request, too, must not hide that the bucket lacks what it promises.
                    if kind is None or issubclass(kind, CommandError):
                        raise

    def commit(self) -> None:
        """Asks for the directory as it is now to be mirrored; returns at once.

        Raises:
            CommandError: An earlier upload failed for good (exit code 4).
        """
        if self._mirror is not None:
            self._mirror.request()
