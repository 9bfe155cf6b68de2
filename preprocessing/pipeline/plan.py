"""Which clips there are, and which shard each goes to: decided from names alone, before any audio is read.

A recording's split and shard follow from its own name, so that a new file changes no other file's place.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import NamedTuple

from preprocessing.dataset.manifest import shard_name
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.splits import SPLIT_RULES, Track, id_digest, is_audio_name, parse_track
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.options import Options
from preprocessing.sources import discovery
from preprocessing.sources.discovery import Source

MACINTOSH_FOLDER = "__MACOSX"  # of zip archives: a shadow of every file


class Clip(NamedTuple):
    """One recording to read: its source (see `sources.Source`), and the shard that will hold it."""

    uri: str
    archive: str
    offset: int
    size: int
    recording_id: str
    genre: str
    shard: str

    def to_json(self) -> str:
        """One line; a path may hold newlines and any bytes, so they are escaped."""
        return json.dumps(self)

    def shard_key(self) -> str:
        """What the clips are grouped by."""
        return self.shard

    @staticmethod
    def from_json(line: str) -> Clip:
        """The inverse of `to_json`."""
        return Clip(*json.loads(line))


class Plan(NamedTuple):
    """A job's work. `fingerprint` and, of each shard, `listings` change when an input file does."""

    clips: list[Clip]
    rejected: list[Rejected]
    indexes: dict[str, bytes]  # of compressed archives
    listings: dict[str, str]  # shard -> SHA-256 of its clips' places, sizes and times
    fingerprint: str


def make_plan(options: Options) -> Plan:
    """Finds the recordings of `options.input` and deals them out.

    Raises:
        CommandError: There is no such input, or no recording in it (exit code 3).
    """
    found = discovery.find(options.input)
    rejected = list(found.rejected)
    taken: Counter[str] = Counter()
    clips: list[Clip] = []
    listings: dict[str, hashlib._Hash] = defaultdict(hashlib.sha256)
    listed = hashlib.sha256("".join(f"{one.to_json()}\n" for one in sorted(rejected)).encode())
    genres = set()
    for source in found.sources:
        track = parse_track(source.name)
        if options.genres and track and track.genre not in options.genres:
            continue
        line = json.dumps((source.uri, source.size, source.stamp)).encode()
        listed.update(line)
        if refused := _refused(source, track):
            rejected.append(refused)
            continue
        genres.add(track.genre)
        taken[track.track_id] += 1
        # Two files of one name, in two folders or of two endings: both are read, and the split is one.
        again = f"~{taken[track.track_id]}" if taken[track.track_id] > 1 else ""
        for split in SPLIT_RULES[options.split](track):
            shard = _shard_of(track.track_id, split, options.shards)
            where = (source.uri, source.archive, source.offset, source.size)
            clips.append(Clip(*where, f"{track.track_id}{again}", track.genre, shard))
            listings[shard].update(line + again.encode())
    unheard = sorted(set(options.genres) - genres)
    if unheard and found.sources:
        raise CommandError(f"--genre {unheard[0]}: {options.input} has no clip of it", BAD_DATA)
    if not clips:
        raise CommandError(_nothing_found(options, found), BAD_DATA)
    digests = {shard: digest.hexdigest() for shard, digest in listings.items()}
    return Plan(clips, rejected, found.indexes, digests, listed.hexdigest())


def _refused(source: Source, track: Track | None) -> Rejected | None:
    """What its name alone says against a file."""
    folders = PurePosixPath(source.name).parts
    if folders[-1].startswith(".") or MACINTOSH_FOLDER in folders:
        return Rejected(source.uri, "other_file", "a hidden file")
    if track is None:
        if not is_audio_name(source.name):
            return Rejected(source.uri, "other_file", "it lies in no folder, and is not called like audio")
        return Rejected(source.uri, "no_class", "it lies in no folder whose name would be its class")
    return None


def _shard_of(track_id: str, split: str, train_shards: int) -> str:
    """By a digest of the id, so that every shard is a mixture of genres and stays what it is."""
    count = train_shards if split == "train" else max(1, train_shards // 8)
    # Other bytes than the split's, which would leave shards empty.
    return shard_name(split, int.from_bytes(id_digest(track_id)[8:16], "big") % count, count)


def _nothing_found(options: Options, found: discovery.Found) -> str:
    if not found.sources:
        return (
            f"--input {options.input} has no files: give a folder of genre folders, a pattern or an archive"
        )
    wanted = f" of the genres {', '.join(options.genres)}" if options.genres else ""
    chosen = " whose number is in the reference's lists" if options.split == "reference" else ""
    return (
        f"--input {options.input} has {len(found.sources)} files but no clip{wanted}{chosen}: "
        "the folder that a file lies in names its class, as in <genre>/<genre>.<number>.wav"
    )
