"""Read the header of an audio file: its container and what it declares.

Files are untrusted, so nothing they declare is relied on: a size only says where to look next, the number of
looks is bounded, and what cannot be read is `None`. `preprocessing.audio.decode` checks the declarations.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from preprocessing.audio.header import UNKNOWN_SIZES, FileBytes, Header
from preprocessing.audio.riff import W64_RIFF_SUFFIX, read_aiff, read_w64, read_wav

MAX_TAGS = 8  # consecutive ID3 tags; one is typical

# Codec -> bytes per sample, None for compressed ones.
AU_CODECS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 23: None, 25: None, 26: None, 27: 1}
OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC"}

# (offset, magic number) -> name. libsndfile reads the first five, but they are rare, and corrupt ones make it
# hang or print.
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

# Bit rates of MPEG audio layer III by the four bits of a frame's header: MPEG-1, then MPEG-2 and 2.5.
MP3_KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MPEG1_SAMPLE_RATES_HZ = (44_100, 48_000, 32_000)  # halved in MPEG-2, and again in 2.5


def read_header(stream: BinaryIO) -> Header | None:
    """Return the header of `stream`, a whole file, or None where it is in no known audio format.

    Whatever the bytes are, they raise no exception. The stream's position afterwards is undefined.
    """
    file = FileBytes(stream)
    tags = 0
    while (tag := file.read(0, 10))[:3] == b"ID3" and len(tag) == 10 and tags < MAX_TAGS:
        high, middle, low, last = (byte & 0x7F for byte in tag[6:])
        file.start += 10 + (high << 21 | middle << 14 | low << 7 | last)
        tags += 1
    header = _read_after_tags(file)
    if header is None:
        return Header("MP3", body_start=file.start) if tags else None
    return header if header.decoder_head else header._replace(body_start=file.start)


def _read_after_tags(file: FileBytes) -> Header | None:
    head = file.read(0, 64)
    magic, form_type = head[:4], head[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64") and form_type == b"WAVE":
        return read_wav(file, ">" if magic == b"RIFX" else "<", is_rf64=magic == b"RF64")
    if head[:16] == b"riff" + W64_RIFF_SUFFIX:
        return read_w64(file)
    if magic in (b".snd", b"dns."):
        return _read_au(file, ">" if magic == b".snd" else "<")
    if magic == b"FORM" and form_type in (b"AIFF", b"AIFC"):
        return read_aiff(file, form_type)
    if magic == b"fLaC":
        return _read_flac(file)
    if magic == b"OggS":
        return _read_ogg(file)
    for (offset, undecodable_magic), name in UNDECODABLE.items():
        if head[offset:].startswith(undecodable_magic):
            return Header(name, decodable=False)
    return _read_mpeg(file)


def _read_au(file: FileBytes, byte_order: str) -> Header:
    fields = file.unpack(f"{byte_order}5I", 4)
    if not fields:
        return Header("AU")
    offset, size, encoding, sample_rate_hz, channels = fields
    sample_bytes = AU_CODECS.get(encoding)
    data_offset = file.start + offset
    header = Header(
        "AU",
        codec=f"encoding {encoding}",
        decodable=encoding in AU_CODECS,
        channels=channels,
        sample_rate_hz=sample_rate_hz,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
    ).with_data(data_offset, size, UNKNOWN_SIZES)
    return header._replace(
        # libsndfile counts the bytes of samples in 31 bits; all ones tell it to read up to the end.
        decoder_head=file.read(0, 8) + b"\xff\xff\xff\xff",
        body_start=file.start + 12,
        body_end=data_offset + header.available_data_bytes(file.end),
    )


def _read_flac(file: FileBytes) -> Header:
    block_type = file.unpack(">B", 4)
    stream_info = file.unpack(">Q", 18)
    if not stream_info or not block_type or block_type[0] & 0x7F:  # the block STREAMINFO, 0, comes first
        return Header("FLAC")
    (bits,) = stream_info
    sample_rate_hz, channels, frames = bits >> 44, (bits >> 41 & 7) + 1, bits & (2**36 - 1)
    return Header("FLAC", channels=channels, sample_rate_hz=sample_rate_hz, frames=frames or None)


def _read_ogg(file: FileBytes) -> Header:
    (segments,) = file.unpack("B", 26) or (0,)
    packet = file.read(27 + segments, 16)
    codec = next((OGG_CODECS[magic] for magic in OGG_CODECS if packet.startswith(magic)), "")
    header = Header("Ogg", codec=codec or "an unknown codec", decodable=bool(codec) or len(packet) < 16)
    if codec == "Vorbis" and len(packet) == 16:
        channels, sample_rate_hz = struct.unpack("<BI", packet[11:16])
        header = header._replace(channels=channels, sample_rate_hz=sample_rate_hz)
    elif codec == "Opus" and len(packet) == 16:
        header = header._replace(channels=packet[9])
    return header


def _read_mpeg(file: FileBytes) -> Header | None:
    """Recognize MP3, layers I and II, and AAC by the sync bits with which every frame begins."""
    head = file.read(0, 4)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return Header("AAC", decodable=False)
    frame_bytes = _mp3_frame_bytes(head)
    next_head = file.read(frame_bytes, 4)
    if not frame_bytes or len(next_head) < 4 or not _mp3_frame_bytes(next_head):
        return Header("MP3", is_certain=False)
    first_bytes = file.read(0, 64)
    if any(tag in first_bytes for tag in (b"Xing", b"Info", b"VBRI")):
        return Header("MP3")
    return Header("MP3", decoder_head=_mp3_info_frame(head), body_start=file.start)


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
    """Return the size of the MP3 frame that begins with `head`; 0 if it is none, or has a free bit rate."""
    version, rate, kbps, padding = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or version == 1 or rate == 3 or kbps in (0, 15):
        return 0
    sample_rate_hz = MPEG1_SAMPLE_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144_000 if version == 3 else 72_000) * MP3_KBPS[version != 3][kbps] // sample_rate_hz + padding
