"""Plan a job: list the source files and assign each to a shard, by names alone, before any audio is read.

The split and the shard of a recording depend only on its own name, so a new file moves no other file.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.dataset.manifest import shard_name
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.splits import SPLIT_RULES, Track, id_digest, is_audio_name, parse_track
from preprocessing.errors import CommandError, DataError
from preprocessing.options import Options
from preprocessing.sources.discovery import Discovery, find_inputs
from preprocessing.sources.exclusions import excluded, parse_exclusions
from preprocessing.sources.input_file import InputFile
from preprocessing.sources.locations import GLOB
from preprocessing.sources.rights import read_rights

LISTED_GENRES = 20  # in a message


class SourceFile(NamedTuple):
    """A file to decode, and the shard that its records go to.

    `uri`, `archive`, `offset` and `size` locate its bytes, see `preprocessing.sources.input_file.InputFile`.
    """

    uri: str
    archive: str
    offset: int
    size: int
    recording_id: str
    genre: str
    shard: str
    license: str = ""
    attribution: str = ""

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
    compressed_archives: dict[str, bytes]  # see `preprocessing.sources.discovery.Discovery`
    listings: dict[str, str]  # shard -> SHA-256 of the paths, sizes and times of its source files
    fingerprint: str  # SHA-256 of the whole input listing
    unused_exclusions: list[str]  # names that match no file


def make_plan(options: Options) -> Plan:
    """List the recordings of `options.input` and assign them to splits and shards.

    Raises:
        CommandError: The input does not exist or has no recordings (exit code 3).
    """
    discovery = find_inputs(options.input)
    wanted_genres = {unicodedata.normalize("NFC", genre) for genre in options.genres}
    rejected = list(discovery.rejected)
    source_files: list[SourceFile] = []
    listings: dict[str, Any] = defaultdict(hashlib.sha256)  # shard -> running hash
    listing = hashlib.sha256("".join(f"{file.to_json()}\n" for file in sorted(rejected)).encode())
    recording_ids: set[str] = set()
    genres = set()
    exclusions = parse_exclusions(options.exclusions)
    used_exclusions = set()
    rights_index = read_rights(discovery)
    for source in discovery.files:
        track = parse_track(source.relative_path)
        if track:
            genres.add(track.genre)
            if wanted_genres and track.genre not in wanted_genres:
                continue
        if name := exclusions.match(source, track.track_id if track else ""):
            used_exclusions.add(name)
            rejected.append(excluded(source, name))
            continue
        line = json.dumps((source.uri, source.size, source.stamp)).encode()
        listing.update(line)
        if track is None or not _is_text(track.genre):
            rejected.append(_rejection(source, track))
            continue
        recording_id = _unique_id(track.track_id, recording_ids)
        rights = rights_index.find(source.relative_path)
        for split in SPLIT_RULES[options.split](track):
            shard = shard_of(track.track_id, split, options.shards)
            location = (source.uri, source.archive_uri, source.offset, source.size)
            source_files.append(SourceFile(*location, recording_id, track.genre, shard, *rights))
            listings[shard].update(line + recording_id.removeprefix(track.track_id).encode())
            listings[shard].update("".join(rights).encode())
    if missing := sorted(wanted_genres - genres):
        raise _missing_genre_error(options, missing[0], genres)
    if not source_files:
        raise _no_recordings_error(options, discovery)
    digests = {shard: digest.hexdigest() for shard, digest in listings.items()}
    return Plan(
        source_files,
        rejected,
        discovery.compressed_archives,
        digests,
        listing.hexdigest(),
        sorted(exclusions.names - used_exclusions),
    )


def _unique_id(track_id: str, recording_ids: set[str]) -> str:
    """Return an id that is not among `recording_ids`, and add it.

    Files of one name, in different folders or with different extensions, are all read, for the same split.
    """
    recording_id, number = track_id, 1
    while recording_id in recording_ids:
        number += 1
        recording_id = f"{track_id}~{number}"
    recording_ids.add(recording_id)
    return recording_id


def _is_text(name: str) -> bool:
    """Return whether a name is valid UTF-8; bytes that are not have become surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rejection(source: InputFile, track: Track | None) -> Rejected:
    """Return why a file is rejected whose path contains no class, or one that is not text."""
    if not is_audio_name(source.relative_path):
        return Rejected(source.uri, "other_file", "it is in no class folder and has no audio extension")
    if track is None:
        return Rejected(source.uri, "no_class", "it is not in a folder whose name would be its class")
    return Rejected(
        source.uri, "bad_class_name", "the name of its folder is not valid UTF-8: rename the folder"
    )


def shard_of(track_id: str, split: str, train_shards: int) -> str:
    """Return a shard by a digest of the id, so that it mixes genres and does not depend on other files."""
    count = train_shards if split == "train" else max(1, train_shards // 8)
    # Not the bytes that determine the split: those would leave some shards empty.
    return shard_name(split, int.from_bytes(id_digest(track_id)[8:16], "big") % count, count)


def _missing_genre_error(options: Options, missing: str, genres: set[str]) -> CommandError:
    known = sorted(filter(_is_text, genres))
    names = ", ".join(known[:LISTED_GENRES]) + (", ..." if len(known) > LISTED_GENRES else "")
    has = f"it has {names}" if known else "it has no genre folders"
    return DataError(f"`genre` {missing}: {options.input} has no clip of it; {has}")


def _no_recordings_error(options: Options, discovery: Discovery) -> CommandError:
    """Return the error that says why there is nothing to decode."""
    place = f"`input` {options.input}"
    layout = "the folder that contains a file names its class, as in <genre>/<genre>.<number>.wav"
    if discovery.files:
        genre = f" of the genres {', '.join(options.genres)}" if options.genres else ""
        number = " whose number is in the reference's lists" if options.split == "reference" else ""
        message = f"{place} has {len(discovery.files)} files but no clip{genre}{number}: {layout}"
    elif discovery.rejected:
        file = discovery.rejected[0]
        count = len(discovery.rejected)
        others = f" and {count - 1} others" if count > 1 else ""
        message = f"{place} has no file that can be read: {file.uri} ({file.reason}: {file.detail}){others}"
    elif options.input.startswith("~"):
        message = f"{place} begins with ~, which the shell did not expand: write the folder's full path"
    elif GLOB.search(options.input):
        message = f"{place}: no file matches this pattern"
    elif "://" in options.input:
        message = f"{place}: there is no file below it: check the name of the bucket and of the folder"
    elif Path(options.input).exists():
        message = f"{place} is an empty folder or list: give a folder of genre folders; {layout}"
    else:
        message = f"{place} does not exist: check the path"
    return DataError(message)
