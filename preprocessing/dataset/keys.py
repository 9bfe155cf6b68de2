"""The names of musical keys, as records, conditions and flags write them. Standard library only."""

from __future__ import annotations

import re

from preprocessing.errors import UsageError

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = ("major", "minor")
KEYS = tuple(f"{tonic} {mode}" for mode in MODES for tonic in TONICS)
_SEMITONES_OF_ACCIDENTAL = {"": 0, "#": 1, "b": -1}


def parse_key(text: str) -> str:
    """Return the name in `KEYS` of a key such as "a minor", "Bb major" or "F#  minor".

    Raises:
        UsageError: `text` is not the name of a key (exit code 2).
    """
    match = re.fullmatch(r"([A-G])([#b]?)\s+(major|minor)", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(
            f"{text!r} is not a key: write a tonic from A to G, with # or b if need be, and major or minor, as in "
            '"A minor" or "Bb major"'
        )
    tonic, accidental, mode = match.groups()
    semitone = TONICS.index(tonic.upper()) + _SEMITONES_OF_ACCIDENTAL[accidental.lower()]
    return f"{TONICS[semitone % len(TONICS)]} {mode.lower()}"


def is_related(key: str, other: str) -> bool:
    """Return whether two different keys are related as in MIREX's evaluation of key finders.

    The tonics are a fifth apart and the modes are the same, or one key is the relative or the parallel of the other.

    Args:
        key: One of `KEYS`.
        other: Another one; equal keys are not related.
    """
    size = len(TONICS)
    (is_minor, tonic), (other_is_minor, other_tonic) = (
        divmod(KEYS.index(name), size) for name in (key, other)
    )
    interval = (other_tonic - tonic) % size
    if is_minor == other_is_minor:
        return interval in (5, 7)
    to_minor = interval if other_is_minor else -interval % size
    return to_minor in (0, 9)
