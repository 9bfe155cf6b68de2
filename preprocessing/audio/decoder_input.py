"""The bytes that a decoder may see, as a file object."""

from __future__ import annotations

from typing import BinaryIO

from preprocessing.audio.headers.header import Header

MAX_OFFSET = 2**62  # beyond what any file has


class DecoderInput:
    """`header.decoder_head`, then the file's body.

    Decoders call the methods from C, where an exception would only be printed; so exceptions of the stream are kept
    for `raise_stream_error`.
    """

    def __init__(self, stream: BinaryIO, file_bytes: int, header: Header) -> None:
        self.header = header
        self.file_bytes = file_bytes
        self.reached_end = False  # has the decoder asked for more bytes than there are?
        self._stream = stream
        self._stream_error: BaseException | None = None
        self._head_bytes = len(header.decoder_head)
        body_end = file_bytes if header.body_end is None else min(header.body_end, file_bytes)
        self._size = self._head_bytes + max(body_end - header.body_start, 0)
        self._position = 0
        # The position after the last read of the stream. Decoders seek often, and a seek can be expensive, as in
        # an archive.
        self._stream_position = -1
        # The fast way, for most files: nothing has to be withheld at their end.
        readinto = getattr(stream, "readinto", None)
        self._read = readinto if readinto and body_end == stream.seek(0, 2) else self._read_within_body

    @property
    def remaining_bytes(self) -> int:
        """Bytes after the position."""
        return self._size - self._position

    def raise_stream_error(self) -> None:
        """Raise the exception that the stream has raised, if any."""
        if self._stream_error is not None:
            raise self._stream_error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as in a file; an impossible position is ignored."""
        position = offset + (0, self._position, self._size)[whence]
        if not 0 <= position < MAX_OFFSET:
            return -1
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end, and none after an error of the stream."""
        buffer = bytearray(max(min(size, self.remaining_bytes), 0))
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` as far as there are bytes and return their number; 0 after an error of the stream."""
        try:
            count = self._read_some(buffer)
            while count < len(buffer) and (more := self._read_some(memoryview(buffer)[count:])):
                count += more
        except BaseException as error:  # including KeyboardInterrupt, which would be lost here
            self._stream_error = error
            return 0
        if count < len(buffer):
            self.reached_end = True
        return count

    def _read_some(self, buffer: memoryview) -> int:
        if self._position < self._head_bytes:
            part = self.header.decoder_head[self._position : self._position + len(buffer)]
            buffer[: len(part)] = part
            self._position += len(part)
            return len(part)
        if self._stream_position != self._position:
            self._stream.seek(self._position - self._head_bytes + self.header.body_start)
        count = self._read(buffer)
        self._position += count
        self._stream_position = self._position
        return count

    def _read_within_body(self, buffer: memoryview) -> int:
        data = self._stream.read(min(len(buffer), max(self._size - self._position, 0)))
        buffer[: len(data)] = data
        return len(data)
