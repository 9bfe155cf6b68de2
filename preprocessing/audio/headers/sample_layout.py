"""Integer samples that fill only part of their bytes, such as 24 bits in 4 bytes.

By the standard they fill the upper bits (Microsoft, "Multiple channel audio data and WAVE files", 2001). Some writers
fill the lower ones, which a decoder takes for a recording that is 48 dB too quiet. The samples tell the two apart.
"""

from __future__ import annotations

import numpy as np

from preprocessing.audio.headers.header import FileBytes, Header

INSPECTED_FRAMES = 65_536
INSPECTED_PLACES = 4  # from beginning to end: music may begin quietly


def unused_bits_above(
    file: FileBytes, header: Header, container_bytes: int, bits: int, byte_order: str
) -> int:
    """Return how many upper bits the samples leave unused: 0, or all that `bits` leaves of the container.

    Args:
        file: Its `start` is the origin of no offset here.
        header: Of the file, with the place of its samples.
        container_bytes: Size of a sample, 1 to 4.
        bits: Of a sample, as declared.
        byte_order: `<` or `>`.
    """
    unused = 8 * container_bytes - bits
    if not 0 < unused < 8 * container_bytes or header.data_offset is None:
        return 0
    samples = _inspect(file, header, container_bytes, byte_order)
    fill_lower_bits = bool(np.any(samples & (1 << unused) - 1))
    fit_lower_bits = bool(np.all(np.abs(samples + 0.5) < 2 ** (bits - 1)))
    return unused if fill_lower_bits and fit_lower_bits else 0


def _inspect(file: FileBytes, header: Header, container_bytes: int, byte_order: str) -> np.ndarray:
    """Some of the samples, `[n]` int64."""
    start = (header.data_offset or 0) - file.start
    available = header.available_data_bytes(file.end)
    frame_bytes = container_bytes * max(header.channels or 1, 1)
    parts = []
    for place in range(INSPECTED_PLACES):
        offset = available * place // INSPECTED_PLACES // frame_bytes * frame_bytes
        size = min(INSPECTED_FRAMES // INSPECTED_PLACES * frame_bytes, available - offset)
        parts.append(file.read(start + offset, size - size % container_bytes))
    raw = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, container_bytes)
    if byte_order == "<":
        raw = raw[:, ::-1]
    values = np.zeros(len(raw), np.int64)
    for column in raw.T:
        values = values << 8 | column
    return values - ((values >> 8 * container_bytes - 1) << 8 * container_bytes)
