"""The declarations of an audio file's header, and random access to the bytes of a file."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

# Sizes written by encoders that cannot seek back to fill in the real one: after a crash, or SoX, arecord and
# ffmpeg writing to a pipe.
UNKNOWN_SIZES = {0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFF}
UNKNOWN_SIZES_64 = {0, 2**63 - 1, 2**64 - 1}

PREFIX_BYTES = 512  # kept in memory
SEARCH_BLOCK_BYTES = 1 << 20


class Header(NamedTuple):
    """What a file declares about itself; offsets and sizes in bytes, None where not declared or not read.

    The decoder reads `decoder_head`, followed by the file's bytes from `body_start` to `body_end`.
    """

    container: str
    codec: str = ""  # for messages
    decodable: bool = True  # by libsndfile
    is_certain: bool = True  # False where the magic number is so weak that text can match it
    missing_chunk: str = ""  # a required chunk that the file lacks
    channels: int | None = None
    sample_rate_hz: int | None = None
    frames: int | None = None
    frame_bytes: int | None = None  # None for compressed samples
    holds_bitstream: bool = False  # declared as PCM, but the bits of another codec
    loss: str = ""  # what is known not to be read
    unused_upper_bits: int = 0  # of a sample, which is therefore too small by this power of two
    block_bytes: int = 1  # the unit in which compressed WAV is decoded
    file_bytes: int | None = None  # declared size of the whole container
    data_offset: int | None = None  # where the samples begin
    data_bytes: int | None = None  # declared size of the samples
    decoder_head: bytes = b""
    body_start: int = 0
    body_end: int | None = None

    def is_truncated(self, file_bytes: int) -> bool:
        """Whether the header declares more than the `file_bytes` that the file has."""
        data_end = (self.data_offset or 0) + (self.data_bytes or 0)
        return max(data_end, self.file_bytes or 0) > file_bytes

    def available_data_bytes(self, file_bytes: int) -> int:
        """Return the bytes of samples in a file of `file_bytes`, at most as many as declared."""
        available = max(file_bytes - (self.data_offset or 0), 0)
        return available if self.data_bytes is None else min(available, self.data_bytes)

    def with_data(self, data_offset: int, data_bytes: int, unknown_sizes: set[int]) -> Header:
        """Return the header with the place and declared size of the samples."""
        header = self._replace(data_offset=data_offset)
        if data_bytes in unknown_sizes:
            return header
        frames = data_bytes // header.frame_bytes if header.frame_bytes else None
        return header._replace(data_bytes=data_bytes, frames=frames)


class FileBytes:
    """Random access to the bytes of a file or of a part of it, by their offset from `start`.

    `start` moves to the end of leading tags. Reading beyond the end gives fewer bytes, or none.
    """

    def __init__(self, stream: BinaryIO, start: int = 0, end: int | None = None) -> None:
        file_end = stream.seek(0, 2)
        self.start = start
        self.end = file_end if end is None else end
        stream.seek(start)
        self._stream = stream
        self._prefix_start = start
        self._prefix = stream.read(min(PREFIX_BYTES, self.size))

    @property
    def size(self) -> int:
        """Bytes after the tags."""
        return self.end - self.start

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes, or as many as there are."""
        start = self.start + offset
        in_prefix = start - self._prefix_start
        if in_prefix >= 0 and in_prefix + count <= len(self._prefix):
            return self._prefix[in_prefix : in_prefix + count]
        if offset >= self.size:  # a 64-bit size may point further than a stream can seek
            return b""
        self._stream.seek(start)
        return self._stream.read(min(count, self.size - offset))

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...] | None:
        """Return the values of a `struct` layout, or None where the file ends within them."""
        data = self.read(offset, struct.calcsize(layout))
        return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else None

    def first_nonzero(self, start: int) -> int:
        """Return the offset of the first byte from `start` on that is not 0, or the size."""
        for block_start in range(start, self.size, SEARCH_BLOCK_BYTES):
            block = self.read(block_start, SEARCH_BLOCK_BYTES)
            if rest := block.lstrip(b"\0"):
                return block_start + len(block) - len(rest)
        return self.size

    def search(self, pattern: re.Pattern[bytes], match_bytes: int, start: int = 0) -> Iterator[int]:
        """Yield the offsets of the matches of `pattern`, which has `match_bytes`, from `start` to the end."""
        for block_start in range(start, self.size, SEARCH_BLOCK_BYTES):
            block = self.read(block_start, SEARCH_BLOCK_BYTES + match_bytes - 1)
            for match in pattern.finditer(block):
                if match.start() < SEARCH_BLOCK_BYTES:
                    yield block_start + match.start()
