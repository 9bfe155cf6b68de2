"""A stranger's file as libsndfile may see it, and libsndfile as it may be used on one."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import soundfile

from preprocessing.audio.header import Header


def mix(block: np.ndarray, target: np.ndarray) -> None:
    """The mean of the channels of `[frames, channels]`, to the bit that of `librosa.to_mono`.

    `np.mean` takes a few channels one frame at a time: for stereo 24 ms in 30 s of 44,100 Hz, and this 1.
    """
    channels = block.shape[1]
    # A power of two: the same before the mean and after it.
    scale = 1 / 32_768 if block.dtype == np.int16 else 1.0
    if channels == 1:
        np.multiply(block[:, 0], scale, out=target, dtype=np.float32)
        return
    if channels >= 8:  # from here on NumPy adds in pairs
        np.mean(block, axis=1, dtype=np.float32, out=target)
    else:
        np.copyto(target, block[:, 0])
        for channel in range(1, channels):
            target += block[:, channel]
        target /= channels
    if scale != 1.0:
        target *= scale


class Sound(soundfile.SoundFile):
    """A sound file that is only read forward.

    The plain one seeks to its place after every read: slow in compressed files, impossible in broken.
    """

    def seekable(self) -> bool:
        """Never, as far as soundfile knows."""
        return False

    def is_read(self) -> bool:
        """Whether as many frames as the header promises have been read."""
        try:
            return self.tell() >= self.frames
        except soundfile.SoundFileError:  # a stream of unknown length
            return False


class Source:
    """The file as the decoder should see it, with the stream's errors kept for `check`.

    libsndfile calls these methods from C, where an exception would only be printed.
    """

    def __init__(self, stream: BinaryIO, file_bytes: int, header: Header) -> None:
        self.header = header
        self.file_bytes = file_bytes
        self.exhausted = False  # has more been asked for than there is?
        self._stream = stream
        self._error: BaseException | None = None
        self._body_at = len(header.head)
        body_end = file_bytes if header.body_end is None else min(header.body_end, file_bytes)
        self._size = self._body_at + max(body_end - header.body_at, 0)
        self._place = 0
        self._stream_place = -1  # unknown; a seek can be dear, as in an archive, and libsndfile seeks much
        # The quick way, which most files can take: nothing to hold back at their end.
        readinto = getattr(stream, "readinto", None)
        self._read = readinto if readinto and body_end == file_bytes else self._read_within

    def check(self) -> None:
        """Raises what the stream has raised."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's; a place that no file has changes nothing."""
        place = offset + (0, self._place, self._size)[whence]
        if not 0 <= place < 2**62:
            return -1
        self._place = place
        return place

    def tell(self) -> int:
        """As a file's."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        """As a file's, and always as much as there is; 0 after an error."""
        try:
            count = self._read_some(buffer)
            while count < len(buffer) and (more := self._read_some(memoryview(buffer)[count:])):
                count += more
        except BaseException as error:  # also an interrupt, which would be lost here
            self._error = error
            return 0
        if count < len(buffer):
            self.exhausted = True
        return count

    def _read_some(self, buffer: memoryview) -> int:
        if self._place < self._body_at:
            part = self.header.head[self._place : self._place + len(buffer)]
            buffer[: len(part)] = part
            self._place += len(part)
            return len(part)
        if self._stream_place != self._place:
            self._stream.seek(self._place - self._body_at + self.header.body_at)
        count = self._read(buffer)
        self._place += count
        self._stream_place = self._place
        return count

    def _read_within(self, buffer: memoryview) -> int:
        data = self._stream.read(min(len(buffer), max(self._size - self._place, 0)))
        buffer[: len(data)] = data
        return len(data)
