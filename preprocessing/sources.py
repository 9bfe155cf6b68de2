"""Which clips there are, and which shard each goes to: decided from names alone, before any audio is read."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import NamedTuple

from preprocessing import files
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.gtzan import SPLIT_RULES, SPLITS, id_digest, is_audio_name, parse_track
from preprocessing.manifest import shard_name
from preprocessing.options import Options


class Clip(NamedTuple):
    """One record to make: a file, its track, and the shard that will hold it."""

    uri: str
    track_id: str
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


class Rejected(NamedTuple):
    """One line of `quarantine.jsonl`."""

    uri: str
    reason: str
    detail: str

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self._asdict())


class Listing(NamedTuple):
    """The plan of a job. `fingerprint` changes when any input file is added, removed or changed."""

    clips: list[Clip]
    rejected: list[Rejected]
    fingerprint: str


def list_clips(options: Options) -> Listing:
    """Finds the clips under `options.input` and plans the shards.

    Raises:
        CommandError: There is no such input, or no clip in it (exit code 3).
    """
    found = sorted(files.find(options.input), key=lambda file: file.path)
    rejected: list[Rejected] = []
    tracks: dict[str, tuple[str, str]] = {}  # track id -> (uri, genre)
    members: dict[str, list[str]] = defaultdict(list)  # split -> track ids
    listed = hashlib.sha256()
    for file in found:
        track = parse_track(file.path)
        outside = options.genres and track and track.genre not in options.genres
        if not is_audio_name(file.path) or outside:
            continue
        listed.update(repr((file.path, file.size_in_bytes, file.last_updated_in_seconds)).encode())
        if track is None:
            detail = "expected <genre>/<genre>.<number>.<ending>"
            rejected.append(Rejected(file.path, "unexpected_name", detail))
            continue
        if track.track_id in tracks:
            detail = f"track {track.track_id} is already taken from {tracks[track.track_id][0]}"
            rejected.append(Rejected(file.path, "duplicate_track", detail))
            continue
        tracks[track.track_id] = (file.path, track.genre)
        for split in SPLIT_RULES[options.split](track):
            members[split].append(track.track_id)
    unheard = sorted(set(options.genres) - {genre for _, genre in tracks.values()})
    if unheard and found:
        raise CommandError(f"--genre {unheard[0]}: {options.input} has no clip of it", BAD_DATA)
    if not members:
        raise CommandError(_nothing_found(options, len(found)), BAD_DATA)
    clips = [
        Clip(tracks[track_id][0], track_id, tracks[track_id][1], shard)
        for split in SPLITS
        for track_id, shard in _assign_shards(split, members[split], options.shards)
    ]
    return Listing(clips, rejected, listed.hexdigest())


def _assign_shards(split: str, track_ids: list[str], train_shards: int) -> list[tuple[str, str]]:
    """Deals the tracks round, in the order of a digest, so that every shard is a mixture of genres."""
    wanted = train_shards if split == "train" else max(1, train_shards // 8)
    count = min(wanted, len(track_ids))
    dealt = sorted(track_ids, key=id_digest)
    return [(track_id, shard_name(split, rank % count, count)) for rank, track_id in enumerate(dealt)]


def _nothing_found(options: Options, found: int) -> str:
    if found == 0:
        return f"--input {options.input} has no files: give a folder of genre folders, or a pattern"
    wanted = f" of the genres {', '.join(options.genres)}" if options.genres else ""
    chosen = " whose number is in the seed's lists" if options.split == "seed" else ""
    return (
        f"--input {options.input} has {found} files but no clip{wanted}{chosen}: "
        "clips are named <genre>/<genre>.<number>.wav (or au, mp3, flac, ogg)"
    )
