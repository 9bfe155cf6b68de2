"""Compressed sound that is declared as PCM: played as it is, it is noise.

Players send the bits of AC-3 and DTS to a receiver as if they were samples, and some programs save them so: behind a
preamble (IEC 61937-1, section 6.1.7), or as DTS on CDs has them (ETSI TS 102 114, section 5.3).
"""

from __future__ import annotations

import itertools
import re

from preprocessing.audio.headers.header import FileBytes, Header

SYNC_WORDS = (
    bytes.fromhex("72f81f4e"),  # the preamble's words Pa and Pb, little endian
    bytes.fromhex("f8724e1f"),
    bytes.fromhex("fe7f0180"),  # DTS with 16 bits in each word
    bytes.fromhex("7ffe8001"),
    bytes.fromhex("ff1f00e8"),  # DTS with 14 bits
    bytes.fromhex("1fffe800"),
)
INSPECTED_BYTES = 1 << 17  # 0.7 s of a CD; a burst lasts 140 ms at most
MIN_SYNC_WORDS = 3
MIN_BURST_BYTES = 1_024  # a square wave at full scale has one of the words in each period


def holds_bitstream(file: FileBytes, header: Header) -> bool:
    """Return whether what `header` declares as 16-bit samples is the bits of another codec, in bursts of equal size."""
    start = (header.data_offset or 0) - file.start
    data = file.read(start, min(INSPECTED_BYTES, header.available_data_bytes(file.end)))
    for word in SYNC_WORDS:
        if data.count(word) < MIN_SYNC_WORDS:
            continue
        places = [match.start() for match in re.finditer(re.escape(word), data)]
        distances = {end - begin for begin, end in itertools.pairwise(places)}
        if len(distances) == 1 and distances.pop() >= MIN_BURST_BYTES:
            return True
    return False
