"""The layout of a collection, modelled on GTZAN's: the track behind a path, and the splits of a track."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import NamedTuple

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
SPLITS = ("train", "validation", "test")
REQUIRED_SPLITS = ("train", "test")  # without them, nothing can be trained
MIN_TEST_RECORDINGS = 10  # with fewer, metrics say little
# Extensions that claim that a file is audio. The content decides whether it is; of a file that is not, they tell
# whether that is a fault.
AUDIO_ENDINGS = (
    *("wav", "wave", "bwf", "rf64", "w64", "au", "snd", "aif", "aiff", "aifc", "caf", "voc", "flac", "ogg"),
    *("oga", "opus", "spx", "mp3", "mp2", "mpga", "m4a", "m4b", "aac", "alac", "wma", "ac3", "eac3", "dts"),
    *("wv", "ape", "tta", "tak", "mpc", "mka", "weba", "amr", "dsf", "dff", "ra", "gsm", "sph", "8svx"),
)

# The track numbers of the reference notebook. Number 45 is in both lists: one test track is trained on.
REFERENCE_TRAIN_NUMBERS = (0, 52, 19, 39, 71, 12, 75, 85, 3, 45, 24, 46, 88)
REFERENCE_TEST_NUMBERS = (4, 43, 56, 55, 45, 31, 11, 13, 70, 37, 21, 78)
REFERENCE_IN_BOTH = tuple(sorted(set(REFERENCE_TRAIN_NUMBERS) & set(REFERENCE_TEST_NUMBERS)))

_NUMBERED = re.compile(r"(?P<genre>.+)\.(?P<number>\d+)", re.DOTALL)


class Track(NamedTuple):
    """One recording of a collection, e.g. `("jazz.00018", "jazz", 18)`; only GTZAN's names have a number."""

    track_id: str
    genre: str
    number: int | None


def parse_track(name: str) -> Track | None:
    """Parse `.../<genre>/<stem>.<extension>`; return None if the file is in no named folder.

    The track id is the stem where it has GTZAN's form `<genre>.<number>`, otherwise `<genre>.<stem>`. Names are in
    the normal form C of Unicode: macOS decomposes the letters of names, and other systems do not.
    """
    name = unicodedata.normalize("NFC", name)
    folders, _, file = name.rpartition("/")
    genre = folders.rpartition("/")[2]
    if genre in ("", ".", ".."):
        return None
    stem = file.rpartition(".")[0] or file
    numbered = _NUMBERED.fullmatch(stem)
    if numbered and numbered["genre"] == genre:
        return Track(stem, genre, int(numbered["number"]))
    return Track(f"{genre}.{stem}", genre, None)


def is_audio_name(uri: str) -> bool:
    """Return whether the extension is one of `AUDIO_ENDINGS`, in any case; audio may have other names."""
    return uri.lower().endswith(tuple(f".{ending}" for ending in AUDIO_ENDINGS))


def id_digest(track_id: str) -> bytes:
    """Return the SHA-256 of a track id, which may contain bytes that are not valid UTF-8."""
    return hashlib.sha256(track_id.encode("utf-8", "surrogateescape")).digest()


def hash_splits(track: Track) -> tuple[str, ...]:
    """Split 80/10/10 by SHA-256 of the track id: the same on every machine and in every collection."""
    percent = int.from_bytes(id_digest(track.track_id)[:8], "big") % 100
    return ("train" if percent < 80 else "validation" if percent < 90 else "test",)


def fill_empty_splits(counts: dict[str, int], smallest: dict[str, list[str]]) -> dict[str, str]:
    """Return the recordings to move, so that no split is empty, with the split that each moves to.

    A small collection may have no digest that belongs to the test or validation split. Of the largest split, the
    recording with the smallest digest moves: the same on every machine. Two recordings fill training and test; one
    cannot be split.

    Args:
        counts: The number of recordings in each split.
        smallest: The ids of those with the smallest digests in each split, in that order; `len(SPLITS)` are enough.
    """
    counts = dict(counts)
    left = {split: iter(ids) for split, ids in smallest.items()}
    moves = {}
    for split in (*REQUIRED_SPLITS, "validation"):
        donor = max(SPLITS, key=lambda name: counts[name])
        if not counts[split] and counts[donor] > 1:
            moves[next(left[donor])] = split
            counts[donor] -= 1
            counts[split] += 1
    return moves


def reference_splits(track: Track) -> tuple[str, ...]:
    """Split by the reference notebook's lists: into none, one or (number 45) both of `train` and `test`."""
    in_train, in_test = track.number in REFERENCE_TRAIN_NUMBERS, track.number in REFERENCE_TEST_NUMBERS
    return ("train",) * in_train + ("test",) * in_test


SPLIT_RULES = {"hash": hash_splits, "reference": reference_splits}
