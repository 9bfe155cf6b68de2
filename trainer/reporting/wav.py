"""Write and read mono WAV files."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from preprocessing.html.media import pcm16
from preprocessing.storage.atomic import write_atomically


def write_wav(
    path: Path, audio: np.ndarray, sample_rate_hz: int, output_rate_hz: int | None = None, comment: str = ""
) -> None:
    """Write one mono clip as a 16-bit PCM WAV file, atomically.

    Args:
        path: The file, in a folder that exists.
        audio: `[samples]` float32; values beyond [-1, 1] are clipped, NaN becomes silence.
        sample_rate_hz: The rate of `audio`.
        output_rate_hz: The rate of the file; None keeps that of `audio`.
        comment: Is stored as ICMT in the file's INFO chunk.

    Raises:
        OSError: The folder is missing, read-only or full.
    """
    rate_hz = output_rate_hz or sample_rate_hz
    file = io.BytesIO()
    soundfile.write(file, pcm16(audio, sample_rate_hz, rate_hz), rate_hz, format="WAV", subtype="PCM_16")
    content = file.getvalue()
    write_atomically(path, _with_comment(content, comment) if comment else content)


def read_wav(path: Path) -> np.ndarray:
    """Read a mono WAV file as `[samples]` float32 in [-1, 1], at the file's own rate."""
    audio, _ = soundfile.read(path, dtype="float32")
    return audio


def read_comment(path: Path) -> str:
    """Return the comment of a WAV file, or an empty string.

    Raises:
        ValueError: The comment is not UTF-8.
    """
    content = path.read_bytes()
    for name, body in _chunks(content, 12):
        if name == b"LIST" and body.startswith(b"INFO"):
            for part, text in _chunks(body, 4):
                if part == b"ICMT":
                    return text.rstrip(b"\0").decode()
    return ""


# Not by libsndfile, which drops comments of more than about 2 kB.
def _with_comment(content: bytes, comment: str) -> bytes:
    info = b"INFO" + _chunk(b"ICMT", comment.encode() + b"\0")
    extended = content + _chunk(b"LIST", info)
    return extended[:4] + struct.pack("<I", len(extended) - 8) + extended[8:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _chunks(content: bytes, offset: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and body of the chunks from `offset` on."""
    while offset + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, offset)
        yield name, content[offset + 8 : offset + 8 + size]
        offset += 8 + size + size % 2
