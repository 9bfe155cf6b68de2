"""TFRecord framing: the writer beside the reader, without TensorFlow.

A TFRecord is: length (uint64), masked CRC-32C of the length, the payload, masked CRC-32C of the payload; all
little-endian (tensorflow/core/lib/io/record_writer.h). Importing TensorFlow would cost every worker seconds
and hundreds of megabytes; the tests read the files with TensorFlow's own reader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c


class CorruptRecordError(Exception):
    """A TFRecord file is cut or has a wrong checksum."""


def frame(data: bytes) -> bytes:
    """`data` as one TFRecord."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def read_frames(stream: BinaryIO) -> Iterator[bytes]:
    """The payloads of a TFRecord stream.

    Raises:
        CorruptRecordError: The file is cut, or a checksum differs.
    """
    position = 0
    while head := stream.read(12):
        if len(head) < 12 or _masked_crc(head[:8]) != head[8:]:
            raise CorruptRecordError(f"a damaged record length at byte {position}")
        (length,) = struct.unpack("<Q", head[:8])
        body = stream.read(length + 4)
        if len(body) < length + 4 or _masked_crc(body[:-4]) != body[-4:]:
            raise CorruptRecordError(f"a damaged record at byte {position}")
        yield body[:-4]
        position += 12 + len(body)


def positions(stream: BinaryIO) -> Iterator[int]:
    """Where in a TFRecord stream each record begins; only lengths are read."""
    position = 0
    while head := stream.read(12):
        yield position
        (length,) = struct.unpack("<Q", head[:8])
        position += 12 + length + 4
        stream.seek(position)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
