"""What a container's header says, and the bytes of a file by their place."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

# What encoders write that cannot come back to fill in the size: a crash, SoX, arecord and ffmpeg into a pipe.
UNKNOWN_SIZES = {0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFF}
UNKNOWN_SIZES_64 = {0, 2**63 - 1, 2**64 - 1}


class Header(NamedTuple):
    """What a file says of itself; `None` where it does not say, or not where it was looked for."""

    container: str
    codec: str = ""  # for messages
    decodable: bool = True
    sure: bool = True  # False where the magic is so weak that text can have it
    missing: str = ""  # a chunk without which there is nothing to decode
    channels: int | None = None
    rate_hz: int | None = None
    frames: int | None = None  # promised; none where an encoder left the size open
    frame_bytes: int | None = None  # of uncompressed samples
    block_bytes: int = 1  # of compressed WAV, what is decoded at once
    file_bytes: int | None = None  # of the whole container, as promised
    data_at: int | None = None  # where in the file the samples begin
    data_bytes: int | None = None  # promised
    # What a decoder should see: `head`, and then the file from `body_at` to `body_end`.
    head: bytes = b""
    body_at: int = 0
    body_end: int | None = None


class File:
    """Bytes of a stream by their place behind its tags; fewer, or none, where the file ends."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.start = 0
        self.end = stream.seek(0, 2)
        stream.seek(0)
        self.first = stream.read(512)

    @property
    def size(self) -> int:
        """Bytes behind the tags."""
        return self.end - self.start

    def at(self, place: int, count: int) -> bytes:
        """`count` bytes, or as many as there are."""
        if place + count <= self.size and self.start + place + count <= len(self.first):
            return self.first[self.start + place : self.start + place + count]
        if place >= self.size:  # a size of 64 bits may point further than a stream can seek
            return b""
        self.stream.seek(self.start + place)
        return self.stream.read(count)

    def numbers(self, layout: str, place: int) -> tuple | None:
        """Unpacked by a layout of `struct`; None where the file ends before."""
        data = self.at(place, struct.calcsize(layout))
        return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else None


def with_data(header: Header, file: File, place: int, size: int, unknown: set[int]) -> Header:
    """`header` with where the samples begin and how many its size field promises."""
    header = header._replace(data_at=file.start + place)
    if size in unknown:
        return header
    frames = size // header.frame_bytes if header.frame_bytes else None
    return header._replace(data_bytes=size, frames=frames)


def bytes_there(header: Header, file: File) -> int:
    """Of the samples, as promised or as far as there are any."""
    there = max(file.end - header.data_at, 0)
    return there if header.data_bytes is None else min(there, header.data_bytes)
