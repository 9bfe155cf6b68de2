"""The headers of WAV, RF64, W64 and AIFF, whose files are chunks: a name, a size, a content.

libsndfile 1.2.2 believes chunks: two lists of a false size, 16 bytes at the end of a WAV file, keep it busy
for ever. So it is not shown those of a file, but a head made here of the two that matter, then the samples.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from preprocessing.audio.header import UNKNOWN_SIZES, UNKNOWN_SIZES_64, File, Header, bytes_there, with_data

MAX_CHUNKS = 256  # a recording has about ten
MAX_FORMAT_BYTES = 256  # of a chunk that tells the format; 16 to 50 are usual
MAX_WAV_BYTES = 2**32 - 4_096  # more has no room in its field of 32 bits

# WAV format tags that the decoder knows, and the bytes of one sample of them (0: as many as the header's bits
# need; None: compressed). NMS ADPCM is left out: libsndfile 1.2.2 writes past a buffer at its last block.
WAV_CODECS = {1: 0, 2: None, 3: 0, 6: 1, 7: 1, 0x11: None, 0x31: None, 0x40: None, 0x55: None}
AIFF_CODECS = {
    **dict.fromkeys((b"NONE", b"twos", b"sowt", b"in24", b"42n1", b"in32", b"23ni"), 0),
    **dict.fromkeys((b"raw ", b"ulaw", b"ULAW", b"alaw", b"ALAW"), 1),
    **{b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ima4": None, b"GSM ": None},
}
W64_RIFF = bytes.fromhex("2e91cf11a5d628db04c10000")  # of each 16-byte name after its four letters
W64_REST = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def _chunks(file: File, place: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """`(name, where its content begins, its size)` of the chunks of a RIFF or FORM file."""
    for _ in range(MAX_CHUNKS):
        found = file.numbers(f"{order}4sI", place)
        if not found:
            return
        name, size = found
        yield name, place + 8, size
        place += 8 + size + size % 2


def _chunk(name: bytes, content: bytes, order: str) -> bytes:
    return name + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2)


def wav(file: File, order: str, long: bool) -> Header:
    """WAV, and its sister RF64 for `long` files, which has the sizes as 64 bits in a chunk of their own."""
    header = Header("RF64" if long else "WAV")
    (outer_bytes,) = file.numbers(f"{order}I", 4) or (0,)
    long_bytes, content = None, b""
    for name, place, size in _chunks(file, 12, order):
        if name == b"fmt " and not content:
            content = file.at(place, min(size, MAX_FORMAT_BYTES))
            header = _with_format(header, content, order)
        elif name == b"ds64" and long and (sizes := file.numbers("<QQ", place)):
            outer_bytes, long_bytes = sizes
        elif name == b"data" and long_bytes is not None and size == 0xFFFFFFFF:
            header = with_data(header, file, place, long_bytes, UNKNOWN_SIZES_64)
            break
        elif name == b"data":
            # No size and then a chunk: there are no samples. No size and then anything else: nobody wrote it.
            empty = size == 0 and _is_chunk(file, place, order)
            header = with_data(header, file, place, size, UNKNOWN_SIZES - {0} if empty else UNKNOWN_SIZES)
            break
    if outer_bytes not in UNKNOWN_SIZES | UNKNOWN_SIZES_64:
        header = header._replace(file_bytes=file.start + 8 + outer_bytes)
    return _with_wav_head(header, file, content, order)


def _with_wav_head(header: Header, file: File, content: bytes, order: str) -> Header:
    """`header` with a head of nothing but the chunk that tells the format, which has this content."""
    if header.channels is None or header.data_at is None:
        return header._replace(missing="fmt" if header.channels is None else "data")
    size = bytes_there(header, file)
    if header.frame_bytes is None:
        size -= size % header.block_bytes
    magic, long, data_bytes = (b"RIFF" if order == "<" else b"RIFX"), b"", size
    if size > MAX_WAV_BYTES:
        magic, data_bytes = b"RF64", 0xFFFFFFFF
        long = _chunk(b"ds64", struct.pack("<QQQI", size + 1_000, size, 0, 0), "<")
    content = (
        b"WAVE" + long + _chunk(b"fmt ", content, order) + b"data" + struct.pack(f"{order}I", data_bytes)
    )
    head = magic + struct.pack(f"{order}I", min(len(content) + size, 0xFFFFFFFF)) + content
    return header._replace(head=head, body_at=header.data_at, body_end=header.data_at + size + size % 2)


def _is_chunk(file: File, place: int, order: str) -> bool:
    name, size = file.numbers(f"{order}4sI", place) or (b"", 0)
    return name.strip().isalnum() and place + 8 + size <= file.size


def _with_format(header: Header, content: bytes, order: str) -> Header:
    """`header` with what a `fmt ` chunk says, which WAV, RF64 and W64 have in common."""
    if len(content) < 16:
        return header
    tag, channels, rate_hz, _, block_bytes, bits = struct.unpack(f"{order}HHIIHH", content[:16])
    if tag == 0xFFFE and len(content) >= 40:
        (tag,) = struct.unpack(f"{order}H", content[24:26])
    sample_bytes = WAV_CODECS.get(tag)
    if sample_bytes == 0:
        sample_bytes = (bits + 7) // 8
    return header._replace(
        codec=f"format tag 0x{tag:04x}",
        decodable=tag in WAV_CODECS,
        channels=channels,
        rate_hz=rate_hz,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
        block_bytes=max(block_bytes, 1),
    )


def w64(file: File) -> Header:
    """Sony\'s Wave64: names of 16 bytes, sizes of 64 bits."""
    header = Header("W64")
    (outer_bytes,) = file.numbers("<Q", 16) or (0,)
    if outer_bytes not in UNKNOWN_SIZES_64:
        header = header._replace(file_bytes=file.start + outer_bytes)
    place, content = 40, b""
    for _ in range(MAX_CHUNKS):
        found = file.numbers("<4s12sQ", place)
        if not found or found[1] != W64_REST:
            break
        name, _, size = found  # which counts its own 24 bytes
        if name == b"fmt " and not content:
            content = file.at(place + 24, min(max(size - 24, 0), MAX_FORMAT_BYTES))
            header = _with_format(header, content, "<")
        elif name == b"data":
            unknown = {unknown - 24 for unknown in UNKNOWN_SIZES_64}
            header = with_data(header, file, place + 24, size - 24, unknown)
            break
        place += max(size + -size % 8, 24)
    return _with_wav_head(header, file, content, "<")


def aiff(file: File, kind: bytes) -> Header:
    """AIFF, and AIFC, which can be compressed: `kind` is its name of four letters."""
    header = Header(kind.decode())
    (outer_bytes,) = file.numbers(">I", 4) or (0,)
    if outer_bytes not in UNKNOWN_SIZES:
        header = header._replace(file_bytes=file.start + 8 + outer_bytes)
    content = b""
    for name, place, size in _chunks(file, 12, ">"):
        if name == b"COMM" and not content:
            content = file.at(place, min(size, MAX_FORMAT_BYTES))
            header = _with_common(header, content)
        elif name == b"SSND" and header.data_at is None:
            (offset,) = file.numbers(">I", place) or (0,)
            header = header._replace(data_at=file.start + place + 8 + offset)
            if size not in UNKNOWN_SIZES:
                header = header._replace(data_bytes=max(size - 8 - offset, 0))
        if header.channels is not None and header.data_at is not None:
            break
    else:
        return header._replace(missing="COMM" if header.channels is None else "SSND")
    size = min(bytes_there(header, file), MAX_WAV_BYTES)
    content = kind + _chunk(b"COMM", content, ">") + b"SSND" + struct.pack(">III", size + 8, 0, 0)
    head = b"FORM" + struct.pack(">I", len(content) + size) + content
    return header._replace(head=head, body_at=header.data_at, body_end=header.data_at + size)


def _with_common(header: Header, content: bytes) -> Header:
    """`header` with what the `COMM` chunk of an AIFF file says; the rate is a float of 80 bits."""
    if len(content) < 18:
        return header
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIhHQ", content[:18])
    codec = content[18:22] if len(content) >= 22 else b"NONE"
    shift = 16_383 + 63 - exponent
    sample_bytes = AIFF_CODECS.get(codec)
    if sample_bytes == 0:
        sample_bytes = (bits + 7) // 8
    return header._replace(
        codec=f"compression {codec.decode('ascii', 'replace')!r}",
        decodable=codec in AIFF_CODECS,
        channels=channels,
        rate_hz=mantissa >> shift if shift >= 0 else 2**64,
        frames=None if frames in UNKNOWN_SIZES else frames,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
    )
