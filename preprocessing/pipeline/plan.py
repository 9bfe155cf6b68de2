"""Plan a job: list the source files and assign each to a shard, by names alone, before any audio is read.

The split and the shard of a recording depend only on its own name, so a new file moves no other file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from preprocessing.dataset.manifest import shard_name
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.splits import SPLIT_RULES, id_digest, is_audio_name, parse_track
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.options import Options
from preprocessing.sources.discovery import Discovery, InputFile, find_inputs

MACINTOSH_FOLDER = "__MACOSX"  # in zip archives made by macOS: metadata beside every file


class SourceFile(NamedTuple):
    """A file to decode, and the shard that its records go to.

    `uri`, `archive`, `offset` and `size` locate its bytes, see `preprocessing.sources.discovery.InputFile`.
    """

    uri: str
    archive: str
    offset: int
    size: int
    recording_id: str
    genre: str
    shard: str

    def to_json(self) -> str:
        """Serialize to one line; a path may contain newlines and any bytes, which JSON escapes."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, line: str) -> SourceFile:
        """Parse one line."""
        return cls(*json.loads(line))

    def shard_key(self) -> str:
        """Return the key by which the pipeline groups source files."""
        return self.shard


class Plan(NamedTuple):
    """The work of a job."""

    source_files: list[SourceFile]
    rejected: list[Rejected]
    indexes: dict[str, bytes]  # archive -> index for random access, of compressed archives
    listings: dict[str, str]  # shard -> SHA-256 of the paths, sizes and times of its source files
    fingerprint: str  # SHA-256 of the whole input listing


def make_plan(options: Options) -> Plan:
    """List the recordings of `options.input` and assign them to splits and shards.

    Raises:
        CommandError: The input does not exist or has no recordings (exit code 3).
    """
    discovery = find_inputs(options.input)
    rejected = list(discovery.rejected)
    source_files: list[SourceFile] = []
    listings: dict[str, Any] = defaultdict(hashlib.sha256)  # shard -> running hash
    listing = hashlib.sha256("".join(f"{file.to_json()}\n" for file in sorted(rejected)).encode())
    occurrences: Counter[str] = Counter()
    genres = set()
    for source in discovery.files:
        track = parse_track(source.relative_path)
        if options.genres and track and track.genre not in options.genres:
            continue
        line = json.dumps((source.uri, source.size, source.stamp)).encode()
        listing.update(line)
        if track is None or _is_hidden(source.relative_path):
            rejected.append(_rejection(source))
            continue
        genres.add(track.genre)
        occurrences[track.track_id] += 1
        # Files of one name, in different folders or with different extensions, are all read, for the same split.
        suffix = f"~{occurrences[track.track_id]}" if occurrences[track.track_id] > 1 else ""
        recording_id = track.track_id + suffix
        for split in SPLIT_RULES[options.split](track):
            shard = _shard_of(track.track_id, split, options.shards)
            location = (source.uri, source.archive_uri, source.offset, source.size)
            source_files.append(SourceFile(*location, recording_id, track.genre, shard))
            listings[shard].update(line + suffix.encode())
    _check_not_empty(options, discovery, source_files, genres)
    digests = {shard: digest.hexdigest() for shard, digest in listings.items()}
    return Plan(source_files, rejected, discovery.indexes, digests, listing.hexdigest())


def _is_hidden(name: str) -> bool:
    folders = PurePosixPath(name).parts
    return folders[-1].startswith(".") or MACINTOSH_FOLDER in folders


def _rejection(source: InputFile) -> Rejected:
    """Return why a file is rejected whose name is hidden or contains no class."""
    if _is_hidden(source.relative_path):
        return Rejected(source.uri, "other_file", "a hidden file")
    if not is_audio_name(source.relative_path):
        return Rejected(source.uri, "other_file", "it is in no class folder and has no audio extension")
    return Rejected(source.uri, "no_class", "it is not in a folder whose name would be its class")


def _shard_of(track_id: str, split: str, train_shards: int) -> str:
    """Return a shard by a digest of the id, so that it mixes genres and does not depend on other files."""
    count = train_shards if split == "train" else max(1, train_shards // 8)
    # Not the bytes that determine the split: those would leave some shards empty.
    return shard_name(split, int.from_bytes(id_digest(track_id)[8:16], "big") % count, count)


def _check_not_empty(
    options: Options, discovery: Discovery, source_files: list[SourceFile], genres: set[str]
) -> None:
    """Raise if the input has no files, lacks a requested genre, or has nothing to decode."""
    if not discovery.files:
        raise CommandError(
            f"--input {options.input} has no files: give a folder of genre folders, a pattern or an archive",
            BAD_DATA,
        )
    if missing := sorted(set(options.genres) - genres):
        raise CommandError(f"--genre {missing[0]}: {options.input} has no clip of it", BAD_DATA)
    if not source_files:
        genre = f" of the genres {', '.join(options.genres)}" if options.genres else ""
        number = " whose number is in the reference's lists" if options.split == "reference" else ""
        raise CommandError(
            f"--input {options.input} has {len(discovery.files)} files but no clip{genre}{number}: "
            "the folder that contains a file names its class, as in <genre>/<genre>.<number>.wav",
            BAD_DATA,
        )
