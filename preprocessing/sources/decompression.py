"""Compressed streams that are read as far as they can be decompressed.

The decompressors of the standard library lose what they have decompressed before a fault, and some raise `OSError` for
it, as a failing disk does. Here, whatever comes before the fault is read, the stream ends there, and `error` says why.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol

import zstandard

READ_BYTES = 1 << 13  # of compressed data; a fault takes the others of its read along
MAX_BLOCK_BYTES = 1 << 20  # decompressed at a time, where the library can be told so
KEPT_BYTES = 1 << 16  # behind the position, for readers that go back by a header
MAX_WINDOW_BYTES = 1 << 31  # of Zstandard, the largest that its program writes
ERRORS = (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class _Decompressor(Protocol):
    """Decompresses one stream; several may follow each other in a file."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return some of the data; more follows without further input until it returns nothing."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What follows the end of the stream."""


class _Zlib:
    """zlib with the interface of bz2 and lzma."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)  # of gzip

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """See `_Decompressor`."""
        return self._decompressor.decompress(self._decompressor.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        """See `_Decompressor`."""
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        """See `_Decompressor`."""
        return self._decompressor.unused_data


class _Zstandard:
    """Zstandard with the interface of bz2 and lzma; what a read of compressed data expands to is not limited."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """See `_Decompressor`."""
        return self._decompressor.decompress(data) if data else b""

    @property
    def eof(self) -> bool:
        """See `_Decompressor`."""
        return bool(self._decompressor.eof)

    @property
    def unused_data(self) -> bytes:
        """See `_Decompressor`."""
        return bytes(self._decompressor.unused_data)


class Compression(NamedTuple):
    """A format of compressed data."""

    magic: tuple[bytes, ...]  # with one of which each stream begins
    make_decompressor: Callable[[], _Decompressor]


GZIP = Compression((b"\x1f\x8b",), _Zlib)
BZIP2 = Compression((b"BZh",), bz2.BZ2Decompressor)
XZ = Compression((b"\xfd7zXZ\x00",), lzma.LZMADecompressor)
# Its frames may hold data of other programs, which are skipped (RFC 8878, section 3.1.2).
_SKIPPABLE = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
ZSTANDARD = Compression((b"\x28\xb5\x2f\xfd", *_SKIPPABLE), _Zstandard)


class DecompressedStream:
    """What a compressed stream holds, to be read forward; one may also go back a little.

    Attributes:
        error: Why the stream ends before the end of the compressed data, or "".
    """

    def __init__(self, stream: BinaryIO, compression: Compression) -> None:
        self.error = ""
        self._stream = stream
        self._compression = compression
        self._decompressor = compression.make_decompressor()
        self._has_ended = False
        self._window = bytearray()
        self._window_start = self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, or those that are left if there are fewer or `size` is negative.

        Raises:
            Exception: What the compressed stream raises when it is read.
        """
        end = self._position + size if size >= 0 else None
        self._fill(end)
        first = self._position - self._window_start
        data = bytes(self._window[first : None if end is None else first + size])
        self._position += len(data)
        return data

    def seek(self, position: int) -> int:
        """Go to a position, at most to the end; raises as `read`.

        Raises:
            OSError: It is too far back.
        """
        if position < self._window_start:
            raise OSError("a compressed stream cannot be read backwards")
        while self._window_end < position and not self._has_ended:
            self._position = self._window_end
            self._fill(self._position + 1)
        self._position = min(position, self._window_end)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    @property
    def _window_end(self) -> int:
        return self._window_start + len(self._window)

    def _fill(self, end: int | None) -> None:
        surplus = self._position - self._window_start - KEPT_BYTES
        if surplus > MAX_BLOCK_BYTES:
            del self._window[:surplus]
            self._window_start += surplus
        while not self._has_ended and (end is None or self._window_end < end):
            self._window += self._next_block()

    def _next_block(self) -> bytes:
        """Return the next decompressed bytes; none at the end, and also where the next read has to go on."""
        if self._decompressor.eof:
            return self._next_stream(bytes(self._decompressor.unused_data))
        if (block := self._decompress(b"")) or self._has_ended:
            return block
        data = self._stream.read(READ_BYTES)
        if not data:
            return self._end(EOFError("the compressed data ends too early"))
        return self._decompress(data)

    def _next_stream(self, data: bytes) -> bytes:
        """Go on with the stream that follows zeros, if one does; other data is left out, as the programs do."""
        while not data.strip(b"\0"):
            data = self._stream.read(READ_BYTES)
            if not data:
                self._has_ended = True
                return b""
        data = data.lstrip(b"\0")
        data += self._stream.read(max(map(len, self._compression.magic)))
        if not data.startswith(self._compression.magic):
            self._has_ended = True
            return b""
        self._decompressor = self._compression.make_decompressor()
        return self._decompress(data)

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._decompressor.decompress(data, MAX_BLOCK_BYTES)
        except ERRORS as error:
            return self._end(error)

    def _end(self, error: BaseException) -> bytes:
        self._has_ended = True
        self.error = str(error) or type(error).__name__
        return b""
