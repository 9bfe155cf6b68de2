"""A run directory: names of its files, local working copies of remote runs, and their upload to `gs://`."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.errors import CommandError, DataError, StorageError, UsageError
from preprocessing.storage import lease
from trainer.config import BEST
from trainer.runs.champion_pointer import resolve
from trainer.runs.mirror import Uploader
from trainer.runs.storage import GcsPrefix, StorageFolder, is_remote

# The files and folders of a run, beside `CONFIG_NAME`.
METRICS = "metrics.jsonl"  # one line per epoch
TRACKING = "mlflow.json"  # id of the MLflow run that tracks the run, and the epochs that it has
ROLLBACKS = "rollbacks.jsonl"  # one line per return to an earlier checkpoint
REPORT = "report.html"  # written when all epochs are done, and again by each evaluation
CHECKPOINTS = "checkpoints"
STEP_PREFIX = "step"  # of checkpoints, for example step-850.index after 850 training steps
POINTER = f"{CHECKPOINTS}/checkpoint"  # names the newest checkpoint: readers start here
EVENTS = "events"  # of TensorBoard, also profiles
SAMPLES = "samples"  # audio and images of each epoch
ORIGINALS = f"{SAMPLES}/originals"  # the fixed test clips
SAMPLE_CLIPS = f"{SAMPLES}/clips.json"  # names, genres and SNR of the fixed test clips
TRAINING_GIF = f"{SAMPLES}/training.gif"
GENERATED = "generated"  # clips of the finished model
MUSIC = "music.json"  # in `generated` and in every output folder of `generate`: describes the files
EVALUATION = "evaluation"  # the last evaluation
EVALUATION_JSON = "evaluation.json"  # in `evaluation`
EVALUATION_MARKDOWN = "evaluation.md"  # in `evaluation`
COMPARISON = "comparison.html"  # compares a candidate with the champion
LISTENING = "listening.jsonl"  # votes of listening tests
PROMOTION = "promotion.json"  # whether a candidate was promoted, and why

# Files that make a folder a run, or somebody else's.
_RUN_FILES = (
    POINTER,
    METRICS,
    TRACKING,
    ROLLBACKS,
    REPORT,
    SAMPLE_CLIPS,
    TRAINING_GIF,
    COMPARISON,
    f"{GENERATED}/{MUSIC}",
    f"{EVALUATION}/{EVALUATION_JSON}",
)

READ_ATTEMPTS = 5  # to read a run that is being written
COPY_SECS = 86_400  # age up to which a copy of a former checkpoint may be in use


def working_copy(uri: str, cache: Path) -> Path:
    """Return the local directory of a run: the run itself, or a folder in the cache for a remote one."""
    return cache / "runs" / _digits(uri.encode()) if is_remote(uri) else Path(uri)


def fetch_run(uri: str, cache: Path) -> Path:
    """Make the files that generation needs of a run available locally.

    A running training replaces its checkpoints. If the newest one is deleted while it is downloaded, its successor is
    downloaded instead.

    Args:
        uri: A run directory, local or `gs://`, or a folder of models, which stands for its champion.
        cache: A local folder for copies of remote runs.

    Returns:
        The run itself if it is local, otherwise a copy.

    Raises:
        CommandError: The run has no checkpoint (3), or storage failed (4).
    """
    uri = resolve(uri)
    if not is_remote(uri):
        return Path(uri)
    prefix = GcsPrefix(uri)
    for _ in range(READ_ATTEMPTS):
        pointer = prefix.read(POINTER)
        if pointer is None:
            raise DataError(f"`run` {uri} has no checkpoint yet: train at least one epoch there")
        copy = cache / "read" / _digits(uri.encode()) / _digits(pointer)
        if copy.exists() or _download_run(prefix, pointer, copy):
            _delete_old_copies(copy)
            return copy
    raise StorageError(f"`run` {uri} changed {READ_ATTEMPTS} times while it was read: try again")


def fetch_results(uri: str, folder: Path) -> Path:
    """Make the files that a report needs of a run available locally: metrics, evaluation, and the last epoch's clips.

    Args:
        uri: A run directory, local or `gs://`.
        folder: An empty local folder for a remote run's files.

    Returns:
        The run itself if it is local, otherwise `folder`.
    """
    if not is_remote(uri):
        return Path(uri)
    prefix = GcsPrefix(uri)
    names = prefix.list_names()
    epochs = [parts[1] for name in names if (parts := name.split("/"))[0] == SAMPLES and len(parts) == 3]
    # The newest epoch may be incomplete: the one before it has the clips of the last line of the metrics.
    newest = sorted(name for name in set(epochs) if name.startswith("epoch-"))[-2:]
    clips = (f"{ORIGINALS}/", f"{GENERATED}/", *(f"{SAMPLES}/{epoch}/" for epoch in newest))
    wanted = {CONFIG_NAME, METRICS, SAMPLE_CLIPS, f"{GENERATED}/{MUSIC}"}
    prefix.download(
        [name for name in names if name in wanted or (name.startswith(clips) and name.endswith(".wav"))],
        folder,
    )
    return folder


def newest_checkpoint(pointer: bytes) -> str | None:
    """Return the name of the checkpoint in the content of `POINTER`, or None if it names none."""
    match = re.search(rb'"([^"]+)"', pointer)
    return match[1].decode("utf-8", "replace") if match else None


def steps_of(checkpoint: str) -> int:
    """Return the number of training steps after which a checkpoint was written."""
    return int(checkpoint.rpartition("-")[2])


def is_left_over(name: str, pointer: bytes) -> bool:
    """Return whether a file of a run belongs to a checkpoint that is not complete, or no longer needed.

    `pointer` is the content of `POINTER`, which is written after the files of a checkpoint.
    """
    folder, _, file = name.rpartition("/")
    if folder != CHECKPOINTS or not file.startswith(f"{STEP_PREFIX}-"):
        return False
    named = {path.rpartition(b"/")[2] for path in re.findall(rb'"([^"]+)"', pointer)}
    return file.partition(".")[0].encode() not in named


def best_checkpoint(names: Iterable[str]) -> str | None:
    """Return the name of the best epoch's checkpoint among the files of `CHECKPOINTS`, or None if it has none.

    It is the latest one: one is written when an epoch is better than all before, and the earlier one is deleted then.
    """
    files = {*names}
    epochs = [int(match[1]) for name in files if (match := re.fullmatch(rf"{BEST}-(\d+)\.index", name))]
    complete = [epoch for epoch in epochs if f"{BEST}-{epoch}.data-00000-of-00001" in files]
    return f"{BEST}-{max(complete)}" if complete else None


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _delete_old_copies(copy: Path) -> None:
    """Delete the copies of a remote run's former checkpoints, unless another process may still read them."""
    for other in copy.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process deletes it
            if other != copy and time.time() - other.stat().st_mtime > COPY_SECS:
                shutil.rmtree(other, ignore_errors=True)


def _download_run(prefix: GcsPrefix, pointer: bytes, copy: Path) -> bool:
    """Download the configuration, the fixed test clips, and the newest and the best checkpoint, all or none.

    A checkpoint is deleted only after the pointer has changed, so a download is complete if the pointer is the same
    before and after.

    Returns:
        False if the pointer has changed meanwhile; then there is no `copy`.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=copy.parent))
    try:
        newest = newest_checkpoint(pointer)
        if newest is None:
            return False
        names = prefix.list_names()
        best = best_checkpoint(name.removeprefix(f"{CHECKPOINTS}/") for name in names)
        chosen = tuple(f"{CHECKPOINTS}/{name}." for name in (newest, best) if name)
        try:
            wanted = (CONFIG_NAME, SAMPLE_CLIPS, f"{ORIGINALS}/", *chosen)
            prefix.download([name for name in names if name.startswith(wanted)], temporary)
        except CommandError:
            if prefix.read(POINTER) == pointer:
                raise
            return False
        if prefix.read(POINTER) != pointer:
            return False
        (temporary / POINTER).write_bytes(pointer)
        with contextlib.suppress(OSError):  # another process has downloaded the same
            temporary.rename(copy)
        return True
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_is_run(uri: str) -> None:
    """Raise if a folder has a file that a training would replace, but is no run (exit code 2)."""
    folder = StorageFolder(uri)
    content = folder.read(CONFIG_NAME)
    found = next((name for name in _RUN_FILES if folder.updated(name)), None)
    if content is None and found is None:
        return
    is_run = content is not None and (found == POINTER or b'"preset"' in content)
    if not is_run:
        raise UsageError(
            f"`run`: {uri} has a file {CONFIG_NAME if content else found}, but is no run of this program: name another "
            "folder",
        )


class RunDirectory:
    """A run's local directory, which is uploaded to the run's URI if that is remote.

    Use as a context manager: entering it takes the run's lease, leaving it waits for the last upload.

    Attributes:
        uri: The run, local or `gs://`.
        path: The local directory.
    """

    def __init__(self, uri: str, cache: Path) -> None:
        if not uri:
            raise UsageError("`run` must not be empty")
        self.uri = uri
        self.path = working_copy(uri, cache)
        self._uploader: Uploader | None = None
        if is_remote(uri):
            self._uploader = Uploader(
                self.path,
                GcsPrefix(uri),
                POINTER,
                upload_only=(EVENTS, lease.LEASE_NAME),
                find_left_overs=self._find_left_overs,
            )

    def __enter__(self) -> RunDirectory:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"`run` {self.uri} is a file: name a directory")
        check_is_run(self.uri)
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._lease = stack.enter_context(lease.acquire(self.uri, survives_outage=True))
            if self._uploader is not None:
                self._uploader.prefix.before_write = self._lease.check
                self._uploader.start()
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            stack.push(self._resources)
            if self._uploader is not None:
                try:
                    self._uploader.close()
                except CommandError:
                    # A stop request must not hide a failed upload; an unexpected error takes precedence.
                    if kind is None or issubclass(kind, CommandError):
                        raise

    def _find_left_overs(self, names: set[str], pointer: bytes) -> set[str]:
        """Return the files of checkpoints that an interrupted upload has left in the bucket.

        Without a pointer, those are all, unless there are metrics of epochs whose checkpoint must have had one.
        """
        if not pointer and (GcsPrefix(self.uri).read(METRICS) or b"").count(b"\n") > 1:
            return set()
        return {name for name in names if is_left_over(name, pointer)}

    def commit(self) -> None:
        """Request an upload of the directory as it is now; return at once.

        Raises:
            CommandError: An earlier upload failed for good (exit code 4).
        """
        if self._uploader is not None:
            self._uploader.request()
