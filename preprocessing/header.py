"""The first bytes of a file: what container it is and what its header promises.

The file comes from a stranger, so nothing of it is believed: a size only says where to look next, the looks
are counted, and what cannot be read is `None`. Whether promises are kept is for `preprocessing.audio` to say.

libsndfile 1.2.2 believes more: two lists of a false size, 16 bytes at the end of a WAV file, keep it busy for
ever. So it is not shown the chunks of a file, but a head made here of the two that matter, then the samples.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_CHUNKS = 256  # a recording has about ten
MAX_TAGS = 8  # ID3 tags in a row, where one is usual
MAX_FORMAT_BYTES = 256  # of a chunk that tells the format; 16 to 50 are usual
# What encoders write that cannot come back to fill in the size: a crash, SoX, arecord and ffmpeg into a pipe.
UNKNOWN_SIZES = {0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFF}
UNKNOWN_SIZES_64 = {0, 2**63 - 1, 2**64 - 1}
MAX_WAV_BYTES = 2**32 - 4_096  # more has no room in its field of 32 bits

# WAV format tags that the decoder knows, and the bytes of one sample of them (0: as many as the header's bits
# need; None: compressed). NMS ADPCM is left out: libsndfile 1.2.2 writes past a buffer at its last block.
WAV_CODECS = {1: 0, 2: None, 3: 0, 6: 1, 7: 1, 0x11: None, 0x31: None, 0x40: None, 0x55: None}
AU_CODECS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 23: None, 25: None, 26: None, 27: 1}
AIFF_CODECS = {
    **dict.fromkeys((b"NONE", b"twos", b"sowt", b"in24", b"42n1", b"in32", b"23ni"), 0),
    **dict.fromkeys((b"raw ", b"ulaw", b"ULAW", b"alaw", b"ALAW"), 1),
    **{b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ima4": None, b"GSM ": None},
}
OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC"}

# Audio and media by their magic and where it is. libsndfile knows the first ones, but they are rare, and when
# broken they make it hang or print.
UNDECODABLE = {
    (8, b"8SVX"): "8SVX",
    (8, b"16SV"): "16SV",
    (0, b"Creative Voice File\x1a"): "VOC",
    (0, b"NIST_1A"): "NIST SPHERE",
    (0, b"caff"): "CAF",
    (4, b"ftyp"): "MP4",
    (4, b"moov"): "QuickTime",
    (0, bytes.fromhex("3026b2758e66cf11")): "ASF (WMA)",
    (0, bytes.fromhex("1a45dfa3")): "Matroska or WebM",
    (0, b"wvpk"): "WavPack",
    (0, b"MAC "): "Monkey's Audio",
    (0, b"ADIF"): "AAC",
    (0, b"#!AMR"): "AMR",
    (0, b"DSD "): "DSF",
    (0, b"FRM8"): "DSDIFF",
    (0, b"MThd"): "MIDI",
    (8, b"RMID"): "MIDI",
    (0, b"TTA1"): "True Audio",
    (0, b"MPCK"): "Musepack",
    (0, b"MP+"): "Musepack",
    (0, b"FLV\x01"): "Flash video",
    (8, b"AVI "): "AVI",
}
W64_RIFF = bytes.fromhex("2e91cf11a5d628db04c10000")  # of each 16-byte name after its four letters
W64_REST = bytes.fromhex("f3acd3118cd100c04f8edb8a")

# Of MPEG audio layer III, by the four bits of the bit rate: in version 1 and in the later ones of low rates.
MP3_KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MPEG_RATES_HZ = (44_100, 48_000, 32_000)  # halved in version 2, and again in 2.5


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


class _File:
    """Bytes of a stream by their place behind its tags; fewer, or none, where the file ends."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.start = 0
        self.end = stream.seek(0, 2)
        stream.seek(0)
        self.first = stream.read(512)

    @property
    def size(self) -> int:
        return self.end - self.start

    def at(self, place: int, count: int) -> bytes:
        if place + count <= self.size and self.start + place + count <= len(self.first):
            return self.first[self.start + place : self.start + place + count]
        if place >= self.size:  # a size of 64 bits may point further than a stream can seek
            return b""
        self.stream.seek(self.start + place)
        return self.stream.read(count)

    def numbers(self, layout: str, place: int) -> tuple | None:
        data = self.at(place, struct.calcsize(layout))
        return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else None


def read_header(stream: BinaryIO) -> Header | None:
    """What `stream`, a whole file, is and promises; `None` where it is no audio that anyone knows.

    It looks at a few places from the first byte on, raises nothing of its own whatever it finds there, and
    leaves the position anywhere.
    """
    file = _File(stream)
    tags = 0
    while (tag := file.at(0, 10))[:3] == b"ID3" and len(tag) == 10 and tags < MAX_TAGS:
        high, middle, low, last = (byte & 0x7F for byte in tag[6:])
        file.start += 10 + (high << 21 | middle << 14 | low << 7 | last)
        tags += 1
    header = _behind_tags(file)
    if header is None:
        return Header("MP3", body_at=file.start) if tags else None
    return header if header.head else header._replace(body_at=file.start)


def _behind_tags(file: _File) -> Header | None:
    head = file.at(0, 64)
    magic, kind = head[:4], head[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64") and kind == b"WAVE":
        return _wav(file, ">" if magic == b"RIFX" else "<", magic == b"RF64")
    if head[:16] == b"riff" + W64_RIFF:
        return _w64(file)
    if magic in (b".snd", b"dns."):
        return _au(file, ">" if magic == b".snd" else "<")
    if magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _aiff(file, kind)
    if magic == b"fLaC":
        return _flac(file)
    if magic == b"OggS":
        return _ogg(file)
    for (place, sign), name in UNDECODABLE.items():
        if head[place : place + len(sign)] == sign:
            return Header(name, decodable=False)
    return _mpeg(file)


def _chunks(file: _File, place: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """`(name, where its content begins, its size)` of the chunks of a RIFF or FORM file."""
    for _ in range(MAX_CHUNKS):
        found = file.numbers(f"{order}4sI", place)
        if not found:
            return
        name, size = found
        yield name, place + 8, size
        place += 8 + size + size % 2


def _with_data(header: Header, file: _File, place: int, size: int, unknown: set[int]) -> Header:
    """`header` with where the samples begin and how many its size field promises."""
    header = header._replace(data_at=file.start + place)
    if size in unknown:
        return header
    frames = size // header.frame_bytes if header.frame_bytes else None
    return header._replace(data_bytes=size, frames=frames)


def _bytes_there(header: Header, file: _File) -> int:
    """Of the samples, as promised or as far as there are any."""
    there = max(file.end - header.data_at, 0)
    return there if header.data_bytes is None else min(there, header.data_bytes)


def _chunk(name: bytes, content: bytes, order: str) -> bytes:
    return name + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2)


def _wav(file: _File, order: str, long: bool) -> Header:
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
            header = _with_data(header, file, place, long_bytes, UNKNOWN_SIZES_64)
            break
        elif name == b"data":
            # No size and then a chunk: there are no samples. No size and then anything else: nobody wrote it.
            empty = size == 0 and _is_chunk(file, place, order)
            header = _with_data(header, file, place, size, UNKNOWN_SIZES - {0} if empty else UNKNOWN_SIZES)
            break
    if outer_bytes not in UNKNOWN_SIZES | UNKNOWN_SIZES_64:
        header = header._replace(file_bytes=file.start + 8 + outer_bytes)
    return _with_wav_head(header, file, content, order)


def _with_wav_head(header: Header, file: _File, content: bytes, order: str) -> Header:
    """`header` with a head of nothing but the chunk that tells the format, which has this content."""
    if header.channels is None or header.data_at is None:
        return header._replace(missing="fmt" if header.channels is None else "data")
    size = _bytes_there(header, file)
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


def _is_chunk(file: _File, place: int, order: str) -> bool:
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


def _w64(file: _File) -> Header:
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
            header = _with_data(header, file, place + 24, size - 24, unknown)
            break
        place += max(size + -size % 8, 24)
    return _with_wav_head(header, file, content, "<")


def _au(file: _File, order: str) -> Header:
    found = file.numbers(f"{order}5I", 4)
    if not found:
        return Header("AU")
    place, size, encoding, rate_hz, channels = found
    sample_bytes = AU_CODECS.get(encoding)
    header = Header(
        "AU",
        codec=f"encoding {encoding}",
        decodable=encoding in AU_CODECS,
        channels=channels,
        rate_hz=rate_hz,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
    )
    header = _with_data(header, file, place, size, UNKNOWN_SIZES)
    # libsndfile counts the bytes of samples in 31 bits. All ones are to it as many as there are.
    head = file.at(0, 8) + b"\xff\xff\xff\xff"
    return header._replace(
        head=head, body_at=file.start + 12, body_end=header.data_at + _bytes_there(header, file)
    )


def _aiff(file: _File, kind: bytes) -> Header:
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
    size = min(_bytes_there(header, file), MAX_WAV_BYTES)
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


def _flac(file: _File) -> Header:
    block = file.numbers(">B", 4)
    found = file.numbers(">Q", 18)
    if not found or not block or block[0] & 0x7F:  # the block STREAMINFO comes first
        return Header("FLAC")
    rate_hz, channels, frames = found[0] >> 44, (found[0] >> 41 & 7) + 1, found[0] & (2**36 - 1)
    return Header("FLAC", channels=channels, rate_hz=rate_hz, frames=frames or None)


def _ogg(file: _File) -> Header:
    (segments,) = file.numbers("B", 26) or (0,)
    packet = file.at(27 + segments, 16)
    codec = next((OGG_CODECS[magic] for magic in OGG_CODECS if packet.startswith(magic)), "")
    header = Header("Ogg", codec=codec or "an unknown codec", decodable=bool(codec) or len(packet) < 16)
    if codec == "Vorbis" and len(packet) == 16:
        channels, rate_hz = struct.unpack("<BI", packet[11:16])
        header = header._replace(channels=channels, rate_hz=rate_hz)
    elif codec == "Opus" and len(packet) == 16:
        header = header._replace(channels=packet[9])
    return header


def _mpeg(file: _File) -> Header | None:
    """MP3 and its older layers, or AAC, by the bits with which every frame begins."""
    head = file.at(0, 4)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return Header("AAC", decodable=False)
    size = _mp3_frame_bytes(head)
    following = file.at(size, 4)
    if not size or len(following) < 4 or not _mp3_frame_bytes(following):
        return Header("MP3", sure=False)
    first = file.at(0, 64)
    if any(tag in first for tag in (b"Xing", b"Info", b"VBRI")):
        return Header("MP3")
    return Header("MP3", head=_mp3_frame_of_any_length(head), body_at=file.start)


def _mp3_frame_of_any_length(head: bytes) -> bytes:
    """A frame to put before an MP3 file whose frames begin with `head`: a tag that says that it is very long.

    Without a tag libsndfile takes the first frame's bit rate for that of all, and stops where the file would
    end then: of a file with a variable rate it drops the rest, which can be most of it.
    """
    is_first_version, is_mono = head[1] & 8 != 0, head[3] & 0xC0 == 0xC0
    side_bytes = {(True, False): 32, (False, True): 9}.get((is_first_version, is_mono), 17)
    start = bytes((0xFF, head[1] | 1, 0xE0 | head[2] & 0x0C, head[3]))  # no checksum, the highest bit rate
    tag = b"Info" + struct.pack(">II", 1, 0x7FFFFFFF)
    return (start + bytes(side_bytes) + tag).ljust(_mp3_frame_bytes(start), b"\0")


def _mp3_frame_bytes(head: bytes) -> int:
    """The size of the MP3 frame that begins with `head`; 0 where it is none, or its bit rate is free."""
    version, rate, kbps, padding = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or version == 1 or rate == 3 or kbps in (0, 15):
        return 0
    rate_hz = MPEG_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144_000 if version == 3 else 72_000) * MP3_KBPS[version != 3][kbps] // rate_hz + padding
