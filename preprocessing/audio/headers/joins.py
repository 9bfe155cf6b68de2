"""Files that hold several recordings one after another.

`cat a.wav b.wav > c.wav`, recorders that append and radio streams make such files. A decoder reads the first recording
and takes its end for that of the file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from preprocessing.audio.headers.header import FileBytes, Header

MAGIC_BYTES = {
    **{b"RIFF": 4, b"RIFX": 4, b"RF64": 4, b"BW64": 4, b"riff": 16, b"FORM": 4},
    **{b"fLaC": 4, b".snd": 4, b"dns.": 4, b"OggS": 4},
}
TTA_MAGIC, TTA_HEADER_BYTES = b"TTA1", 22  # the last four are a checksum
MAX_BOXES = 10_000  # of MP4
OGG_FIRST_PAGE = b"OggS\0\x02"  # version 0, beginning of a stream (RFC 3533, section 6)


def find_later_beginnings(file: FileBytes, first: Header) -> Iterator[int]:
    """Yield the offsets at which, after the first, another recording in a container of the same kind may begin.

    There is a magic number; nothing else was checked. The samples of the first one are not searched if their size is
    known, since it was checked that they end there. Of Ogg pages that begin streams to be played together, only the
    first counts.
    """
    head = file.read(0, 16)
    if head[4:8] == b"ftyp":
        yield from _mp4_beginnings(file)
    elif head[:4] == TTA_MAGIC:
        candidates = file.search(re.compile(re.escape(TTA_MAGIC)), len(TTA_MAGIC), 1)
        yield from (offset for offset in candidates if _is_tta_header(file, offset))
    size = MAGIC_BYTES.get(head[:4])
    if not size:
        return
    magic = OGG_FIRST_PAGE if head[:4] == b"OggS" else head[:size]
    end_of_last_page = _page_end(file, 0)
    start = 1
    if first.data_offset is not None and first.data_bytes is not None:
        start = max(first.data_offset + first.data_bytes - file.start, 1)
    for offset in file.search(re.compile(re.escape(magic)), len(magic), start):
        if magic != OGG_FIRST_PAGE or offset != end_of_last_page:
            yield offset
        end_of_last_page = _page_end(file, offset)


def _mp4_beginnings(file: FileBytes) -> Iterator[int]:
    """Yield where the boxes of a file (ISO/IEC 14496-12, section 4.2) lead to those of another one."""
    offset = 0
    for _ in range(MAX_BOXES):
        size, name = file.unpack(">I4s", offset) or (0, b"")
        if size == 1:
            (size,) = file.unpack(">Q", offset + 8) or (0,)
        if size < 8:
            return
        if name == b"ftyp" and offset:
            yield offset
        offset += size


def _is_tta_header(file: FileBytes, offset: int) -> bool:
    header = file.read(offset, TTA_HEADER_BYTES)
    return zlib.crc32(header[:-4]).to_bytes(4, "little") == header[-4:]


def _page_end(file: FileBytes, offset: int) -> int:
    """Return where the Ogg page at `offset` ends."""
    (segments,) = file.unpack("B", offset + 26) or (0,)
    return offset + 27 + segments + sum(file.read(offset + 27, segments))
