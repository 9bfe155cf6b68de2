"""The chunks of RIFF and FORM files: a name, a size and a content.

The sizes are not relied on. Writers leave out the byte that pads an odd size, and programs that stream or crash leave
sizes that are wrong. So names that are known decide where a chunk begins, and where the sizes lead nowhere, the chunks
that matter are searched for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from preprocessing.audio.headers.header import FileBytes

MAX_CHUNKS = 256  # a typical recording has about ten
MAX_SEARCHED_BYTES = 1 << 20  # of a header whose sizes are wrong
FIRST_CHUNK = 12  # its offset, after the container's name, size and form type
MIN_CONTINUATION_BYTES = 4_096  # less after the samples is left over from something else
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
KNOWN_NAMES = frozenset(
    (
        *(b"fmt ", b"data", b"fact", b"LIST", b"list", b"INFO", b"JUNK", b"junk", b"PAD ", b"FLLR", b"ds64"),
        *(b"bext", b"iXML", b"axml", b"chna", b"levl", b"PEAK", b"cue ", b"plst", b"smpl", b"inst", b"id3 "),
        *(b"ID3 ", b"DISP", b"acid", b"afsp", b"_PMX", b"COMM", b"SSND", b"FVER", b"MARK", b"INST", b"COMT"),
        *(b"NAME", b"AUTH", b"(c) ", b"ANNO", b"APPL", b"MIDI", b"AESD", b"CHAN"),
    )
)

Chunk = tuple[bytes, int, int]  # name, offset of the content, its declared size


def walk_chunks(file: FileBytes, byte_order: str, required: frozenset[bytes]) -> Iterator[Chunk]:
    """Yield the chunks of a file; of `required` ones that the sizes do not lead to, those that a search finds."""
    found: set[bytes] = set()
    offset = FIRST_CHUNK
    for _ in range(MAX_CHUNKS):
        chunk = file.unpack(f"{byte_order}4sI", offset)
        if not chunk:
            break
        name, size = chunk
        found.add(name)
        yield name, offset + 8, size
        offset += 8 + size
        if size % 2 and not _begins_without_padding(file, offset):
            offset += 1
    if not required <= found:
        yield from _search(file, byte_order, required - found)


def is_chunk(file: FileBytes, offset: int, byte_order: str) -> bool:
    """Return whether something like a chunk that fits into the file begins at `offset`."""
    name, size = file.unpack(f"{byte_order}4sI", offset) or (b"", 0)
    return name.strip().isalnum() and offset + 8 + size <= file.size


def samples_continue(file: FileBytes, end: int, byte_order: str) -> bool:
    """Return whether the samples go on after the `end` that a size declares.

    Sizes of 32 bits overflow, and a recorder that crashes leaves the size of its last update.
    """
    sound = file.first_nonzero(end)
    if file.size - sound < MIN_CONTINUATION_BYTES:
        return False
    # What follows the samples may be padded, by a byte or up to a sector.
    return not any(_is_tag_or_chunk(file, start, byte_order) for start in {end, end + 1, sound})


def further_data(file: FileBytes, end: int, byte_order: str) -> int:
    """Return the size of the next `data` chunk behind the samples, which end at `end`; 0 if there is none."""
    offset = end + end % 2
    for _ in range(MAX_CHUNKS):
        name, size = file.unpack(f"{byte_order}4sI", offset) or (b"", 0)
        if name == b"data":
            return min(size, max(file.size - offset - 8, 0))
        if name not in KNOWN_NAMES:
            break
        offset += 8 + size + size % 2
    return 0


def make_chunk(name: bytes, content: bytes, byte_order: str) -> bytes:
    """Return a chunk, padded to an even size."""
    return name + struct.pack(f"{byte_order}I", len(content)) + content + bytes(len(content) % 2)


def _is_tag_or_chunk(file: FileBytes, offset: int, byte_order: str) -> bool:
    head = file.read(offset, 16)
    return head.startswith(TAGS) or head[:4] in KNOWN_NAMES or is_chunk(file, offset, byte_order)


def _begins_without_padding(file: FileBytes, offset: int) -> bool:
    return file.read(offset, 4) in KNOWN_NAMES and file.read(offset + 1, 4) not in KNOWN_NAMES


def _search(file: FileBytes, byte_order: str, names: frozenset[bytes]) -> Iterator[Chunk]:
    """Yield the first chunk of each name, in their order in the file."""
    head = file.read(0, MAX_SEARCHED_BYTES)
    for offset in sorted(head.find(name, FIRST_CHUNK) for name in names):
        if offset >= 0 and (chunk := file.unpack(f"{byte_order}4sI", offset)):
            yield chunk[0], offset + 8, chunk[1]
