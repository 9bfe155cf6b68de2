"""TFRecord framing without TensorFlow: writer and reader.

A TFRecord is: length (uint64), masked CRC-32C of the length, the payload, masked CRC-32C of the payload; all
little-endian (tensorflow/core/lib/io/record_writer.h). Importing TensorFlow would cost every worker seconds
and hundreds of megabytes. The tests read the files with TensorFlow's own reader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

import google_crc32c

_HEAD_BYTES, _CRC_BYTES = 12, 4


class CorruptRecordError(Exception):
    """A TFRecord file is truncated or has a wrong checksum."""


class Readable(Protocol):
    """A binary stream that is read from start to end."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, or fewer at the end."""


class Seekable(Readable, Protocol):
    """A binary stream with random access."""

    def seek(self, offset: int, /) -> int:
        """Move to `offset` bytes from the start."""


def frame(payload: bytes) -> bytes:
    """Return `payload` as one TFRecord."""
    length = struct.pack("<Q", len(payload))
    return b"".join((length, _masked_crc(length), payload, _masked_crc(payload)))


def read_frames(stream: Readable) -> Iterator[bytes]:
    """Yield the payloads of a TFRecord stream.

    Raises:
        CorruptRecordError: The stream is truncated, or a checksum differs.
    """
    offset = 0
    while head := stream.read(_HEAD_BYTES):
        if len(head) < _HEAD_BYTES or _masked_crc(head[:8]) != head[8:]:
            raise CorruptRecordError(f"corrupt record length at byte {offset}")
        (length,) = struct.unpack("<Q", head[:8])
        body = stream.read(length + _CRC_BYTES)
        payload, checksum = body[:length], body[length:]
        if _masked_crc(payload) != checksum:  # a truncated body has no checksum of 4 bytes
            raise CorruptRecordError(f"corrupt record at byte {offset}")
        yield payload
        offset += _HEAD_BYTES + len(body)


def record_offsets(stream: Seekable) -> Iterator[int]:
    """Yield the byte offset of each record of a TFRecord stream, reading the lengths only."""
    offset = 0
    while head := stream.read(_HEAD_BYTES):
        yield offset
        (length,) = struct.unpack("<Q", head[:8])
        offset += _HEAD_BYTES + length + _CRC_BYTES
        stream.seek(offset)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
