"""Random changes to the bytes of files, for fuzzing."""

from __future__ import annotations

import struct

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]


def mutate(rng, data, files):
    """Return `data` with one to eight random changes, most of them near the beginning."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        at = rng.randrange(min(len(changed), rng.choice((64, 256, len(changed)))))
        size = rng.randrange(1, 300)
        match rng.randrange(8):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del changed[rng.randrange(len(changed)) :]
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = rng.randbytes(size)
            case 5:
                other = rng.randrange(len(changed))
                changed[at : at + size], changed[other : other + size] = (
                    changed[other : other + size],
                    changed[at : at + size],
                )
            case 6:
                layout = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
                content = struct.pack(layout, rng.choice(NUMBERS) % 256 ** struct.calcsize(layout))
                changed[at : at + len(content)] = content
            case 7:
                donor = rng.choice(files)
                changed[at:at] = donor[:size] if rng.random() < 0.5 else donor[-size:]
    return bytes(changed)
