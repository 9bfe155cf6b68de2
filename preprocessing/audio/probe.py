"""The first bytes of a file: what container it is and what its header promises.

The file comes from a stranger, so nothing of it is believed: a size only says where to look next, the looks
are counted, and what cannot be read is `None`. Whether promises are kept is for `preprocessing.audio.decode` to say.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from preprocessing.audio.header import UNKNOWN_SIZES, File, Header, bytes_there, with_data
from preprocessing.audio.riff import W64_RIFF, aiff, w64, wav

MAX_TAGS = 8  # ID3 tags in a row, where one is usual

AU_CODECS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 23: None, 25: None, 26: None, 27: 1}
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

# Of MPEG audio layer III, by the four bits of the bit rate: in version 1 and in the later ones of low rates.
MP3_KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MPEG_RATES_HZ = (44_100, 48_000, 32_000)  # halved in version 2, and again in 2.5


def read_header(stream: BinaryIO) -> Header | None:
    """What `stream`, a whole file, is and promises; `None` where it is no audio that anyone knows.

    It looks at a few places from the first byte on, raises nothing of its own whatever it finds there, and
    leaves the position anywhere.
    """
    file = File(stream)
    tags = 0
    while (tag := file.at(0, 10))[:3] == b"ID3" and len(tag) == 10 and tags < MAX_TAGS:
        high, middle, low, last = (byte & 0x7F for byte in tag[6:])
        file.start += 10 + (high << 21 | middle << 14 | low << 7 | last)
        tags += 1
    header = _behind_tags(file)
    if header is None:
        return Header("MP3", body_at=file.start) if tags else None
    return header if header.head else header._replace(body_at=file.start)


def _behind_tags(file: File) -> Header | None:
    head = file.at(0, 64)
    magic, kind = head[:4], head[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64") and kind == b"WAVE":
        return wav(file, ">" if magic == b"RIFX" else "<", magic == b"RF64")
    if head[:16] == b"riff" + W64_RIFF:
        return w64(file)
    if magic in (b".snd", b"dns."):
        return _au(file, ">" if magic == b".snd" else "<")
    if magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return aiff(file, kind)
    if magic == b"fLaC":
        return _flac(file)
    if magic == b"OggS":
        return _ogg(file)
    for (place, sign), name in UNDECODABLE.items():
        if head[place : place + len(sign)] == sign:
            return Header(name, decodable=False)
    return _mpeg(file)


def _au(file: File, order: str) -> Header:
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
    header = with_data(header, file, place, size, UNKNOWN_SIZES)
    # libsndfile counts the bytes of samples in 31 bits. All ones are to it as many as there are.
    head = file.at(0, 8) + b"\xff\xff\xff\xff"
    return header._replace(
        head=head, body_at=file.start + 12, body_end=header.data_at + bytes_there(header, file)
    )


def _flac(file: File) -> Header:
    block = file.numbers(">B", 4)
    found = file.numbers(">Q", 18)
    if not found or not block or block[0] & 0x7F:  # the block STREAMINFO comes first
        return Header("FLAC")
    rate_hz, channels, frames = found[0] >> 44, (found[0] >> 41 & 7) + 1, found[0] & (2**36 - 1)
    return Header("FLAC", channels=channels, rate_hz=rate_hz, frames=frames or None)


def _ogg(file: File) -> Header:
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


def _mpeg(file: File) -> Header | None:
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
