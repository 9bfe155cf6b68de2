"""Read the headers of an audio file: its container and what it declares, for each recording in it.

Files are untrusted, so nothing they declare is relied on: a size only says where to look next, the number of
looks is bounded, and what cannot be read is `None`. `preprocessing.audio.decode` checks the declarations.
"""

from __future__ import annotations

import itertools
import struct
from typing import BinaryIO, NamedTuple

from preprocessing.audio.headers.chunks import samples_continue
from preprocessing.audio.headers.header import UNKNOWN_SIZES, FileBytes, Header
from preprocessing.audio.headers.joins import find_later_beginnings
from preprocessing.audio.headers.mpeg import MAX_TAGS, id3v2_bytes, read_mpeg
from preprocessing.audio.headers.riff import W64_RIFF_SUFFIX, read_aiff, read_w64, read_wav

# Codec -> bytes per sample, None for compressed ones.
AU_CODECS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 23: None, 25: None, 26: None, 27: 1}
FLAC_HEAD_BYTES = 42  # with the block STREAMINFO (RFC 9639, section 8.2)
MAX_FLAC_FRAMES = 2**36 - 1
MAX_OGG_PAGE_BYTES = 65_307
MAX_CANDIDATES = 1_000  # places that look like the beginning of a recording
OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC"}

# (offset, magic number) -> name of formats that libsndfile does not decode, or whose corrupt files make it hang or
# print.
UNDECODABLE = {
    (8, b"8SVX"): "8SVX",
    (8, b"16SV"): "16SV",
    (0, b"Creative Voice File\x1a"): "VOC",
    (0, b"NIST_1A"): "NIST SPHERE",
    (0, b"caff"): "CAF",
    (4, b"ftyp"): "MP4",
    (4, b"moov"): "QuickTime",
    (4, b"mdat"): "QuickTime",
    (0, bytes.fromhex("3026b2758e66cf11")): "ASF (WMA)",
    (0, bytes.fromhex("1a45dfa3")): "Matroska or WebM",
    (0, b"wvpk"): "WavPack",
    (0, b"MAC "): "Monkey's Audio",
    (0, b"ADIF"): "AAC in ADIF",
    (0, b"#!AMR"): "AMR",
    (0, b"DSD "): "DSF",
    (0, b"FRM8"): "DSDIFF",
    (0, b"MThd"): "MIDI",
    (8, b"RMID"): "MIDI",
    (0, b"TTA1"): "True Audio",
    (0, b"tBaK"): "TAK",
    (0, b"ajkg"): "Shorten",
    (0, b"MPCK"): "Musepack",
    (0, b"MP+"): "Musepack",
    (0, b".RMF"): "RealMedia",
    (0, b"FLV\x01"): "Flash video",
    (8, b"AVI "): "AVI",
}
# Rare formats that FFmpeg does not read.
LIBSNDFILE_ONLY = {
    b" paf": "PAF",
    b"fap ": "PAF",
    b"MATLAB 5.0 MAT-file": "MAT5",
    b"Extended Instrument: ": "XI",
}


class Recording(NamedTuple):
    """A file, or one of the recordings that were joined to a file."""

    start: int  # in bytes
    end: int
    header: Header


def read_recordings(stream: BinaryIO) -> list[Recording]:
    """Return the recordings in `stream`, a whole file, in their order: one, except where files were joined.

    Whatever the bytes are, they raise no exception. The stream's position afterwards is undefined.

    Returns:
        None of them where the file is in no known audio format.
    """
    file = FileBytes(stream)
    first = read_header(file)
    if first is None:
        return []
    later = itertools.islice(find_later_beginnings(file, first), MAX_CANDIDATES)
    starts = [start for offset in later if _is_beginning(stream, start := file.start + offset, first)]
    if not starts:
        return [Recording(0, file.end, first)]
    recordings = []
    for start, end in itertools.pairwise([0, *starts, file.end]):
        header = read_header(FileBytes(stream, start, end))
        if header is not None:
            if header.body_end is None:
                header = header._replace(body_end=end)
            recordings.append(Recording(start, end, header))
    return recordings


def read_header(file: FileBytes) -> Header | None:
    """Return the header of a file, or None where it is in no known audio format. `file.start` moves behind tags."""
    tags = 0
    while tags < MAX_TAGS and (tag_bytes := id3v2_bytes(file.read(0, 10))):
        file.start += tag_bytes
        tags += 1
    header = _read_after_tags(file)
    if header is None:
        return Header("MP3", body_start=file.start) if tags else None
    return header if header.decoder_head else header._replace(body_start=file.start)


def _is_beginning(stream: BinaryIO, start: int, first: Header) -> bool:
    header = _read_after_tags(FileBytes(stream, start))
    if header is None or header.missing_chunk or header.channels == 0:
        return False
    return header.decodable or header.container == first.container


def _read_after_tags(file: FileBytes) -> Header | None:
    head = file.read(0, 64)
    magic, form_type = head[:4], head[8:12]
    if magic in (b"RIFF", b"RIFX") and form_type == b"WAVE":
        return read_wav(file, ">" if magic == b"RIFX" else "<")
    if magic in (b"RF64", b"BW64") and form_type == b"WAVE":
        return read_wav(file, "<", variant=magic.decode())
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
    for rare_magic, name in LIBSNDFILE_ONLY.items():
        if head.startswith(rare_magic):
            return Header(name, is_certain=False)
    return read_mpeg(file)


def _read_au(file: FileBytes, byte_order: str) -> Header:
    fields = file.unpack(f"{byte_order}5I", 4)
    if not fields:
        return Header("AU")
    offset, size, encoding, sample_rate_hz, channels = fields
    sample_bytes = AU_CODECS.get(encoding)
    data_offset = file.start + offset
    has_more = samples_continue(file, offset + size, byte_order)
    header = Header(
        "AU",
        codec=f"encoding {encoding}",
        decodable=encoding in AU_CODECS,
        channels=channels,
        sample_rate_hz=sample_rate_hz,
        frame_bytes=channels * sample_bytes if sample_bytes else None,
    ).with_data(data_offset, size, UNKNOWN_SIZES | ({size} if has_more else set()))
    return header._replace(
        # libsndfile counts the bytes of samples in 31 bits; all ones tell it to read up to the end.
        decoder_head=file.read(0, 8) + b"\xff\xff\xff\xff",
        body_start=file.start + 12,
        body_end=data_offset + header.available_data_bytes(file.end),
    )


def _read_flac(file: FileBytes) -> Header:
    head = file.read(0, FLAC_HEAD_BYTES)
    if len(head) < FLAC_HEAD_BYTES or head[4] & 0x7F:  # the block STREAMINFO, 0, comes first
        return Header("FLAC")
    (bits,) = struct.unpack(">Q", head[18:26])
    sample_rate_hz, channels, frames = bits >> 44, (bits >> 41 & 7) + 1, bits & MAX_FLAC_FRAMES
    return Header(
        "FLAC",
        channels=channels,
        sample_rate_hz=sample_rate_hz,
        frames=frames or None,
        # Without the number of frames: libsndfile stops there, and it can be too small.
        decoder_head=head[:18] + struct.pack(">Q", bits & ~MAX_FLAC_FRAMES) + head[26:],
        body_start=file.start + FLAC_HEAD_BYTES,
    )


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
    return header if _has_end_mark(file) else header._replace(loss="no end mark: the file may be cut off")


def _has_end_mark(file: FileBytes) -> bool:
    """Return whether the last Ogg page ends its stream (RFC 3533, section 6)."""
    tail = file.read(max(file.size - MAX_OGG_PAGE_BYTES, 0), MAX_OGG_PAGE_BYTES)
    flags = tail[tail.rfind(b"OggS") + 5 :][:1]
    return bool(flags) and flags[0] & 4 != 0
