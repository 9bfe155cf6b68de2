"""The headers of the chunked containers WAV, RF64, BW64, W64 and AIFF.

libsndfile 1.2.2 trusts the sizes of chunks: two LIST chunks with a false one, 16 bytes at the end of a WAV
file, make it loop forever. So it never sees a file's own chunks, but a rebuilt head of the two chunks that
matter, followed by the samples.
"""

from __future__ import annotations

import struct

from preprocessing.audio.headers.bitstream import holds_bitstream
from preprocessing.audio.headers.chunks import (
    MAX_CHUNKS,
    further_data,
    is_chunk,
    make_chunk,
    samples_continue,
    walk_chunks,
)
from preprocessing.audio.headers.header import UNKNOWN_SIZES, UNKNOWN_SIZES_64, FileBytes, Header
from preprocessing.audio.headers.sample_layout import unused_bits_above

WAV_CHUNKS = frozenset((b"fmt ", b"data"))
AIFF_CHUNKS = frozenset((b"COMM", b"SSND"))
MAX_FORMAT_BYTES = 256  # of a format chunk; 16 to 50 are typical
MAX_WAV_BYTES = 2**32 - 4_096  # the size field has 32 bits

# Codec that libsndfile decodes -> bytes per sample (0: as many as the header's bit depth needs; None:
# compressed). NMS ADPCM is left out: libsndfile 1.2.2 writes past a buffer at its last block. So is MP3: of a variable
# bit rate, it would drop the rest.
WAV_CODECS = {1: 0, 2: None, 3: 0, 6: 1, 7: 1, 0x11: None, 0x31: None, 0x40: None}
WAV_PCM = 1
WAV_EXTENSIBLE = 0xFFFE  # the format tag proper follows in the extension
AIFF_CODECS = {
    **dict.fromkeys((b"NONE", b"twos", b"sowt", b"in24", b"42n1", b"in32", b"23ni"), 0),
    **dict.fromkeys((b"raw ", b"ulaw", b"ULAW", b"alaw", b"ALAW"), 1),
    **{b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ima4": None, b"GSM ": None},
}
W64_RIFF_SUFFIX = bytes.fromhex("2e91cf11a5d628db04c10000")  # of a 16-byte name, after its four letters
W64_CHUNK_SUFFIX = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def read_wav(file: FileBytes, byte_order: str, variant: str = "") -> Header:
    """Read the header of a WAV file.

    Args:
        file: The file.
        byte_order: `<` or `>`, as `struct` has it.
        variant: "RF64" or "BW64", which have 64-bit sizes in a `ds64` chunk.
    """
    header = Header(variant or "WAV")
    (container_bytes,) = file.unpack(f"{byte_order}I", 4) or (0,)
    data_bytes_64, format_chunk = None, b""
    for name, offset, size in walk_chunks(file, byte_order, WAV_CHUNKS):
        if name == b"fmt " and not format_chunk:
            format_chunk = file.read(offset, min(size, MAX_FORMAT_BYTES))
            header = _with_wav_format(header, format_chunk, byte_order)
        elif name == b"ds64" and variant and (sizes := file.unpack("<QQ", offset)):
            container_bytes, data_bytes_64 = sizes
        elif name == b"data" and data_bytes_64 is not None and size == 0xFFFFFFFF:
            unknown_sizes = UNKNOWN_SIZES_64
            if samples_continue(file, offset + data_bytes_64, byte_order):
                unknown_sizes = unknown_sizes | {data_bytes_64}
            header = header.with_data(file.start + offset, data_bytes_64, unknown_sizes)
        elif name == b"data" and header.data_offset is None:
            # Size 0 before another chunk means no samples; before anything else, it is a placeholder.
            is_empty = size == 0 and is_chunk(file, offset, byte_order)
            unknown_sizes = UNKNOWN_SIZES - {0} if is_empty else UNKNOWN_SIZES
            if samples_continue(file, offset + size, byte_order):
                unknown_sizes = unknown_sizes | {size}
            header = header.with_data(file.start + offset, size, unknown_sizes)
            if header.data_bytes and (unread := further_data(file, offset + size, byte_order)):
                header = header._replace(loss=f"a second data chunk, of {unread} bytes, is not read")
        if format_chunk and header.data_offset is not None:
            break
    if container_bytes not in UNKNOWN_SIZES | UNKNOWN_SIZES_64:
        header = header._replace(file_bytes=file.start + 8 + container_bytes)
    return _with_wav_head(header, file, format_chunk, byte_order)


def read_w64(file: FileBytes) -> Header:
    """Read the header of a Sony Wave64 file: WAV with 16-byte names and 64-bit sizes."""
    header = Header("W64")
    (container_bytes,) = file.unpack("<Q", 16) or (0,)
    if container_bytes not in UNKNOWN_SIZES_64:
        header = header._replace(file_bytes=file.start + container_bytes)
    offset, format_chunk = 40, b""
    for _ in range(MAX_CHUNKS):
        chunk = file.unpack("<4s12sQ", offset)
        if not chunk or chunk[1] != W64_CHUNK_SUFFIX:
            break
        name, _, size = chunk  # the size includes these 24 bytes
        if name == b"fmt " and not format_chunk:
            format_chunk = file.read(offset + 24, min(max(size - 24, 0), MAX_FORMAT_BYTES))
            header = _with_wav_format(header, format_chunk, "<")
        elif name == b"data":
            unknown_sizes = {unknown - 24 for unknown in UNKNOWN_SIZES_64}
            end = offset + size
            next_name = file.read(end + -size % 8 + 4, 12)
            if next_name != W64_CHUNK_SUFFIX and samples_continue(file, end, "<"):
                unknown_sizes |= {size - 24}
            header = header.with_data(file.start + offset + 24, size - 24, unknown_sizes)
            break
        offset += max(size + -size % 8, 24)
    return _with_wav_head(header, file, format_chunk, "<")


def read_aiff(file: FileBytes, form_type: bytes) -> Header:
    """Read the header of an AIFF file, or of its compressible variant AIFC: `form_type` says which."""
    header = Header(form_type.decode())
    (container_bytes,) = file.unpack(">I", 4) or (0,)
    if container_bytes not in UNKNOWN_SIZES:
        header = header._replace(file_bytes=file.start + 8 + container_bytes)
    common_chunk = b""
    for name, offset, size in walk_chunks(file, ">", AIFF_CHUNKS):
        if name == b"COMM" and not common_chunk:
            common_chunk = file.read(offset, min(size, MAX_FORMAT_BYTES))
            header = _with_aiff_format(header, common_chunk)
        elif name == b"SSND" and header.data_offset is None:
            (padding,) = file.unpack(">I", offset) or (0,)
            header = header._replace(data_offset=file.start + offset + 8 + padding)
            if size not in UNKNOWN_SIZES and not samples_continue(file, offset + size, ">"):
                header = header._replace(data_bytes=max(size - 8 - padding, 0))
        if header.channels is not None and header.data_offset is not None:
            break
    if header.channels is None or header.data_offset is None:
        return header._replace(missing_chunk="COMM" if header.channels is None else "SSND")
    data_bytes = min(header.available_data_bytes(file.end), MAX_WAV_BYTES)
    content = form_type + make_chunk(b"COMM", common_chunk, ">")
    content += b"SSND" + struct.pack(">III", data_bytes + 8, 0, 0)
    return header._replace(
        decoder_head=b"FORM" + struct.pack(">I", len(content) + data_bytes) + content,
        body_start=header.data_offset,
        body_end=header.data_offset + data_bytes,
    )


def _with_wav_format(header: Header, format_chunk: bytes, byte_order: str) -> Header:
    """Return `header` with the declarations of a `fmt ` chunk, which WAV, RF64 and W64 have in common."""
    if len(format_chunk) < 16:
        return header
    layout = f"{byte_order}HHIIHH"
    tag, channels, sample_rate_hz, _, block_bytes, bits = struct.unpack(layout, format_chunk[:16])
    if tag == WAV_EXTENSIBLE and len(format_chunk) >= 40:
        (tag,) = struct.unpack(f"{byte_order}H", format_chunk[24:26])
    sample_bytes = WAV_CODECS.get(tag)
    if sample_bytes == 0:
        sample_bytes = (bits + 7) // 8
        if tag == WAV_PCM and channels and block_bytes % channels == 0 and block_bytes <= 4 * channels:
            sample_bytes = max(sample_bytes, block_bytes // channels)
    return header._replace(
        codec=f"format tag 0x{tag:04x}",
        decodable=tag in WAV_CODECS,
        channels=channels,
        sample_rate_hz=sample_rate_hz,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
        block_bytes=max(block_bytes, 1),
    )


def _with_wav_head(header: Header, file: FileBytes, format_chunk: bytes, byte_order: str) -> Header:
    """Return `header` with a decoder head that has no chunks but `fmt ` and `data`."""
    if header.channels is None or header.data_offset is None:
        return header._replace(missing_chunk="fmt" if header.channels is None else "data")
    data_offset = header.data_offset
    if header.channels == 2 and header.frame_bytes == 4 and holds_bitstream(file, header):
        header = header._replace(decodable=False, holds_bitstream=True)
    header, format_chunk = _with_whole_samples(header, file, format_chunk, byte_order)
    data_bytes = header.available_data_bytes(file.end)
    if header.frame_bytes is None:
        data_bytes -= data_bytes % header.block_bytes
    magic, ds64_chunk, size_field = (b"RIFF" if byte_order == "<" else b"RIFX"), b"", data_bytes
    if data_bytes > MAX_WAV_BYTES:
        magic, size_field = b"RF64", 0xFFFFFFFF
        ds64_chunk = make_chunk(b"ds64", struct.pack("<QQQI", data_bytes + 1_000, data_bytes, 0, 0), "<")
    content = b"WAVE" + ds64_chunk + make_chunk(b"fmt ", format_chunk, byte_order)
    content += b"data" + struct.pack(f"{byte_order}I", size_field)
    container_bytes = min(len(content) + data_bytes, 0xFFFFFFFF)
    return header._replace(
        decoder_head=magic + struct.pack(f"{byte_order}I", container_bytes) + content,
        body_start=data_offset,
        body_end=data_offset + data_bytes + data_bytes % 2,
    )


def _with_whole_samples(
    header: Header, file: FileBytes, format_chunk: bytes, byte_order: str
) -> tuple[Header, bytes]:
    """Let PCM samples have as many bits as their bytes hold; the header notes which of these are unused.

    libsndfile ignores that samples may be narrower than their bytes.
    """
    tag, channels = struct.unpack(f"{byte_order}HH", format_chunk[:4])
    (bits,) = struct.unpack(f"{byte_order}H", format_chunk[14:16])
    is_extensible = tag == WAV_EXTENSIBLE and len(format_chunk) >= 40
    if is_extensible:
        valid_bits, tag = (struct.unpack(f"{byte_order}H", format_chunk[at : at + 2])[0] for at in (18, 24))
        bits = valid_bits or bits
    container_bytes = header.frame_bytes // channels if header.frame_bytes else 0
    if tag != WAV_PCM or not 2 <= container_bytes <= 4:
        return header, format_chunk
    unused = unused_bits_above(file, header, container_bytes, bits, byte_order)
    declared = struct.pack(f"{byte_order}H", 8 * container_bytes)
    return header._replace(unused_upper_bits=unused), format_chunk[:14] + declared + format_chunk[16:]


def _with_aiff_format(header: Header, common_chunk: bytes) -> Header:
    """Return `header` with the declarations of a `COMM` chunk, whose sample rate is an 80-bit float."""
    if len(common_chunk) < 18:
        return header
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIhHQ", common_chunk[:18])
    codec = common_chunk[18:22] if len(common_chunk) >= 22 else b"NONE"
    shift = 16_383 + 63 - exponent
    sample_bytes = AIFF_CODECS.get(codec)
    if sample_bytes == 0:
        sample_bytes = (bits + 7) // 8
    return header._replace(
        codec=f"compression {codec.decode('ascii', 'replace')!r}",
        decodable=codec in AIFF_CODECS,
        channels=channels,
        sample_rate_hz=mantissa >> shift if shift >= 0 else 2**64,
        frames=None if frames in UNKNOWN_SIZES else frames,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
    )
