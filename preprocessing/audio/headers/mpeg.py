"""Recognize MPEG audio by its frames, and tell how far its frames go.

An MP3 file has no header but tags, and the tag in its first frame describes what an encoder wrote. Of files
that were joined or edited since, it describes the first part.
"""

from __future__ import annotations

import itertools
import re
import struct
from typing import NamedTuple

from preprocessing.audio.headers.header import FileBytes, Header

MAX_TAGS = 8  # consecutive ones; one is typical
ID3V1_BYTES = 128
XING_HAS_FRAMES, XING_HAS_BYTES = 1, 2  # flags of the fields that a Xing tag has
SYNC = re.compile(rb"\xff[\xe2-\xff]")
SEARCHED_BYTES = 1 << 16  # before the first frame, and behind the tags after the declared end
MAX_STARTS = 1_000  # of frames, of which bytes by chance look like some
MAX_RATE_RATIO = 2.0  # of the mean bit rate to that of one frame, up to which a count is believed
MAX_FALSE_FRAMES = 0.02  # of a tag's frames
MIN_RUN_FRAMES = 8  # a fifth of a second: less can be the last frames of a tag that counts differently

# Bit rates of MPEG audio by the layer and the four bits of a frame's header: MPEG-1, then MPEG-2 and 2.5.
_LOW_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
KBPS = {
    1: (tuple(range(0, 480, 32)), (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)),
    2: ((0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384), _LOW_KBPS),
    3: ((0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320), _LOW_KBPS),
}
MPEG1_SAMPLE_RATES_HZ = (44_100, 48_000, 32_000)  # halved in MPEG-2, and again in 2.5


def id3v2_bytes(head: bytes) -> int:
    """Return the size of the ID3v2 tag that begins with `head`, at least 10 bytes; 0 if there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    high, middle, low, last = (byte & 0x7F for byte in head[6:10])
    return 10 + (high << 21 | middle << 14 | low << 7 | last)


def read_mpeg(file: FileBytes) -> Header | None:
    """Recognize MP3, layers I and II, and AAC by the sync bits with which every frame begins.

    What is left of other data before the first MP3 frame is skipped: `file.start` moves.
    """
    head = file.read(0, 4)
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return Header("AAC", decodable=False)
    has_sync = len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if has_sync and any(_is_run_of_frames(file, 0, layer) for layer in (1, 2)):
        return Header("MP2", decodable=False)  # libsndfile ends where the bit rate or the sample rate changes
    if not (has_sync and _mp3_frame_bytes(file.read(_mp3_frame_bytes(head), 4))):
        start = _first_run_of_frames(file, 0)
        if start is None:
            return Header("MP3", is_certain=False) if has_sync else None
        file.start += start
        head = file.read(0, 4)
    if _format_changes(file, head):
        return Header("MP3", codec="changes of its format", decodable=False)
    frame_bytes = _mp3_frame_bytes(head)
    tag = _read_tag(file)
    if tag is None:
        return Header("MP3", decoder_head=_mp3_info_frame(head), body_start=file.start)
    next_frame_bytes = _mp3_frame_bytes(file.read(frame_bytes, 4))
    if _frames_begin_at(file, tag.end) or _has_too_few_frames(file, tag, next_frame_bytes):
        return Header("MP3", decoder_head=_mp3_info_frame(head), body_start=file.start + frame_bytes)
    return Header("MP3")


class _Tag(NamedTuple):
    """What the Xing, Info or VBRI tag of the first frame declares."""

    end: int  # of the frames; the end of the file where not declared
    frames: int | None


def _has_too_few_frames(file: FileBytes, tag: _Tag, frame_bytes: int) -> bool:
    """Return whether a tag declares so few frames that the reading would end early.

    The frames are counted only if one of `frame_bytes` suggests far more of them.
    """
    if tag.frames is None or tag.frames > tag.end / frame_bytes / MAX_RATE_RATIO:
        return False
    counted = offset = 0
    while step := _mp3_frame_bytes(file.read(offset, 4)):
        offset += step
        counted += 1
    return counted - tag.frames > max(MIN_RUN_FRAMES, MAX_FALSE_FRAMES * counted)


def _read_tag(file: FileBytes) -> _Tag | None:
    first_bytes = file.read(0, 64)
    for name in (b"Xing", b"Info"):
        if (offset := first_bytes.find(name)) < 0:
            continue
        flags, *counts = file.unpack(">III", offset + 4) or (0, 0, 0)
        frames = counts.pop(0) if flags & XING_HAS_FRAMES else None
        return _Tag(counts[0] if flags & XING_HAS_BYTES else file.size, frames)
    if (offset := first_bytes.find(b"VBRI")) >= 0:
        end, frames = file.unpack(">II", offset + 10) or (file.size, None)
        return _Tag(end, frames)
    return None


def _frames_begin_at(file: FileBytes, end: int) -> bool:
    """Return whether more MP3 frames follow the `end` that a tag declares, behind other tags or directly."""
    for _ in range(MAX_TAGS):
        head = file.read(end, 16)
        if head.startswith(b"TAG"):
            end += ID3V1_BYTES
        elif head.startswith(b"APETAGEX") and len(head) == 16:
            end += 32 + int.from_bytes(head[12:16], "little")
        elif tag_bytes := id3v2_bytes(head):
            end += tag_bytes
        else:
            break
    return _first_run_of_frames(file, end) is not None


def _first_run_of_frames(file: FileBytes, start: int) -> int | None:
    """Return the offset of the first MP3 frame soon after `start`, or after the zeros there, or None."""
    start = file.first_nonzero(start)
    searched = file.read(start, SEARCHED_BYTES)
    syncs = itertools.islice(SYNC.finditer(searched), MAX_STARTS)
    return next(
        (start + sync.start() for sync in syncs if _is_run_of_frames(file, start + sync.start())), None
    )


def _format_changes(file: FileBytes, head: bytes) -> bool:
    """Return whether frames with another sample rate, or the other of mono and stereo, follow one with `head`."""
    versions = [0xE2 | version << 3 | unprotected for version in (0, 2, 3) for unprotected in (0, 1)]
    same_version = [version for version in versions if version & 0xFE == head[1] & 0xFE]
    other_versions = [version for version in versions if version not in same_version]
    same_rate = [byte for byte in range(256) if byte & 0x0C == head[2] & 0x0C]
    other_rates = [byte for byte in range(256) if byte not in same_rate]
    other_modes = [byte for byte in range(256) if (byte & 0xC0 == 0xC0) != (head[3] & 0xC0 == 0xC0)]
    same = b"\xff" + _any_of(same_version)
    pattern = b"|".join(
        (
            b"\xff" + _any_of(other_versions),
            same + _any_of(other_rates),
            same + _any_of(same_rate) + _any_of(other_modes),
        )
    )
    candidates = file.search(re.compile(pattern, re.DOTALL), match_bytes=4)
    return any(_is_run_of_frames(file, offset) for offset in candidates)


def _any_of(values: list[int]) -> bytes:
    """Return a regular expression that matches one byte of `values`."""
    return b"[" + b"".join(rb"\x%02x" % value for value in values) + b"]"


def _is_run_of_frames(file: FileBytes, offset: int, layer: int = 3) -> bool:
    for _ in range(MIN_RUN_FRAMES):
        head = file.read(offset, 4)
        frame_bytes = _frame_bytes(head, layer)
        if not frame_bytes:
            return False
        offset += frame_bytes
    return True


def _mp3_info_frame(head: bytes) -> bytes:
    """Return an Info frame of unlimited length, to be put before an MP3 file whose frames begin with `head`.

    Without one, libsndfile assumes that all frames have the bit rate of the first, and stops where the file
    would end then: of a file with a variable bit rate it would drop the rest, which can be most of it.
    """
    is_mpeg1, is_mono = head[1] & 8 != 0, head[3] & 0xC0 == 0xC0
    side_info_bytes = {(True, False): 32, (False, True): 9}.get((is_mpeg1, is_mono), 17)
    # No checksum, the highest bit rate.
    frame_head = bytes((0xFF, head[1] | 1, 0xE0 | head[2] & 0x0C, head[3]))
    tag = b"Info" + struct.pack(">II", 1, 0x7FFFFFFF)
    return (frame_head + bytes(side_info_bytes) + tag).ljust(_mp3_frame_bytes(frame_head), b"\0")


def _mp3_frame_bytes(head: bytes) -> int:
    return _frame_bytes(head, layer=3)


def _frame_bytes(head: bytes, layer: int) -> int:
    """Return the size of the frame of a layer that begins with `head`; 0 if it is none, or has a free bit rate."""
    if len(head) < 4:
        return 0
    version, rate, kbps, padding = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    is_layer = head[0] == 0xFF and head[1] & 0xE6 == 0xE0 | (4 - layer) << 1
    if not is_layer or version == 1 or rate == 3 or kbps in (0, 15):
        return 0
    sample_rate_hz = MPEG1_SAMPLE_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits_per_sec = 1_000 * KBPS[layer][version != 3][kbps]
    if layer == 1:  # counts in slots of four bytes
        return (12 * bits_per_sec // sample_rate_hz + padding) * 4
    samples = 576 if layer == 3 and version != 3 else 1_152
    return samples // 8 * bits_per_sec // sample_rate_hz + padding
