"""Show how far a large file has been read."""

from __future__ import annotations

from typing import BinaryIO, cast

from preprocessing.progress import Progress

DELAY_SECS = 3.0  # before a progress bar appears


def show_progress(stream: BinaryIO, description: str) -> BinaryIO:
    """Return `stream` from its beginning, with its progress if reading it takes some seconds."""
    size = stream.seek(0, 2)
    stream.seek(0)
    progress = Progress(description, size, "B", unit_scale=True, delay=DELAY_SECS)
    return cast(BinaryIO, _ProgressStream(stream, progress))


class _ProgressStream:
    """A binary stream that moves the progress to its furthest position."""

    def __init__(self, stream: BinaryIO, progress: Progress) -> None:
        self._stream, self._progress = stream, progress

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._progress.advance(max(0, self._stream.tell() - self._progress.done))
        return data
