"""Show how far a large file has been read."""

from __future__ import annotations

from typing import BinaryIO, cast

from tqdm import tqdm

DELAY_SECS = 3.0  # before a progress bar appears


def show_progress(stream: BinaryIO, description: str) -> BinaryIO:
    """Return `stream` from its beginning, with a progress bar if reading it takes some seconds."""
    size = stream.seek(0, 2)
    stream.seek(0)
    bar = tqdm(total=size, desc=description, unit="B", unit_scale=True, delay=DELAY_SECS, leave=False)
    return cast(BinaryIO, _ProgressStream(stream, bar))


class _ProgressStream:
    """A binary stream that moves a progress bar to its furthest position."""

    def __init__(self, stream: BinaryIO, bar: tqdm) -> None:
        self._stream, self._bar = stream, bar

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._bar.update(max(0, self._stream.tell() - self._bar.n))
        return data
