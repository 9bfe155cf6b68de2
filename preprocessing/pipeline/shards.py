"""A shard's way to its file: recordings decoded and written, kept from before, or freed of duplicates.

Every attempt writes a staged file of its own, so that a worker that dies or is retried leaves nothing that
the commit would take.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam

from preprocessing.audio import decode
from preprocessing.dataset import example, records, tfrecord
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.records import Entry
from preprocessing.dataset.splits import is_audio_name
from preprocessing.features import fingerprint
from preprocessing.features.attributes import measure
from preprocessing.options import AudioFormat
from preprocessing.pipeline.plan import Clip
from preprocessing.sources.discovery import Opener
from preprocessing.storage import beam_files

WHOLE_FILE_BYTES = 16 << 20  # larger files are read in parts, so that a worker's memory stays bounded
HASHED_BYTES = 1 << 20


class ShardResult(NamedTuple):
    """What is known of one shard: its staged file, what lies in it, and what could not."""

    name: str
    staged: str
    bytes: int
    sha256: str
    packed: bytes  # of the entries, as `pack` makes it: a runner holds several copies of what it passes on
    rejected: list[Rejected]
    invalid: frozenset[str] = frozenset()  # recordings that turned out bad when part of them was written

    @property
    def entries(self) -> list[Entry]:
        """In the file's order."""
        return [records.from_json(line) for line in zlib.decompress(self.packed).decode().splitlines()]

    def to_json(self) -> str:
        """One line."""
        fields = self._asdict() | {"packed": base64.b64encode(self.packed).decode(), "void": []}
        return json.dumps(fields)

    @staticmethod
    def from_json(line: str) -> ShardResult:
        """The inverse of `to_json`."""
        fields: dict[str, Any] = json.loads(line)
        fields["packed"] = base64.b64decode(fields["packed"])
        fields["rejected"] = [Rejected(*one) for one in fields["rejected"]]
        return ShardResult(**fields | {"void": frozenset()})


def pack(entries: list[Entry]) -> bytes:
    """`ShardResult.packed`: lines as in `records.jsonl`, compressed."""
    return zlib.compress("\n".join(entry.to_json() for entry in entries).encode())


class _ShardFile:
    """A staged file that grows by records."""

    def __init__(self, staging: str, name: str) -> None:
        # A retried or duplicated attempt writes a second file; the commit takes exactly one of them.
        self.path = beam_files.join(staging, f"{time.time_ns():x}-{name}")
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._stream = beam_files.create(self.path)

    def append(self, framed: bytes) -> None:
        """One TFRecord."""
        self._stream.write(framed)
        self._digest.update(framed)
        self.bytes += len(framed)

    def close(self) -> tuple[str, int, str]:
        """Its path, length and SHA-256."""
        self._stream.close()
        return self.path, self.bytes, self._digest.hexdigest()


class WriteShard(beam.DoFn):
    """`(shard name, its clips)` -> `ShardResult`."""

    def __init__(self, audio_format: AudioFormat, staging: str) -> None:
        self.audio_format = audio_format
        self.staging = staging

    def process(self, element: tuple[str, Iterable[Clip]]) -> Iterator[ShardResult]:
        """Decodes each recording, writes what is good, collects the reasons of the rest."""
        name, clips = element
        file, opener = _ShardFile(self.staging, name), Opener(self.staging)
        entries: list[Entry] = []
        rejected: list[Rejected] = []
        invalid: set[str] = set()
        for clip in sorted(clips, key=lambda clip: clip.recording_id):
            try:
                for entry, framed in self._records(clip, opener):
                    file.append(framed)
                    entries.append(entry)
            except decode.BadAudioError as bad:
                rejected.append(_rejected(clip, bad))
                invalid.add(clip.recording_id)
        opener.close()
        invalid &= {entry.recording_id for entry in entries}
        yield ShardResult(name, *file.close(), pack(entries), rejected, frozenset(invalid))

    def _records(self, clip: Clip, opener: Opener) -> Iterator[tuple[Entry, bytes]]:
        try:
            with opener.open(clip.uri, clip.archive, clip.offset, clip.size) as stream:
                source, source_sha256 = _at_hand(stream, clip.size)
                for number, segment in enumerate(decode.segments(source, self.audio_format)):
                    yield self._record(clip, segment, source_sha256, is_first=number == 0)
        except OSError as error:  # BeamIOError is one too
            reason = "no_permission" if isinstance(error, PermissionError) else "unreadable"
            raise decode.BadAudioError(reason, str(error)) from error

    def _record(
        self, clip: Clip, segment: decode.Segment, source_sha256: str, is_first: bool
    ) -> tuple[Entry, bytes]:
        heard = segment.waveform[: segment.valid_samples]
        attributes = measure(heard, self.audio_format.sample_rate_hz)
        at = f"@{segment.start_secs:g}" if self.audio_format.hop_secs else ""
        record = example.Record(
            audio=segment.waveform,
            track_id=clip.recording_id + at,
            genre=clip.genre,
            sample_rate_hz=self.audio_format.sample_rate_hz,
            valid_samples=segment.valid_samples,
            source_sha256=source_sha256,
            source_uri=clip.uri,
            attributes=attributes,
        )
        entry = Entry(
            track_id=record.track_id,
            recording_id=clip.recording_id,
            genre=clip.genre,
            split=clip.shard.split("-")[0],
            shard=clip.shard,
            start_secs=segment.start_secs,
            valid_samples=segment.valid_samples,
            **{name: value if math.isfinite(value) else None for name, value in attributes._asdict().items()},
            source_uri=clip.uri,
            source_sha256=source_sha256,
            fingerprint=fingerprint.fingerprint(heard) if is_first else "",
        )
        return entry, tfrecord.frame(example.encode(record))


class KeepShard(beam.DoFn):
    """A shard of the version before, which nothing has touched, as a staged file."""

    def __init__(self, staging: str) -> None:
        self.staging = staging

    def process(self, before: ShardResult) -> Iterator[ShardResult]:
        """Copies it; `before.staged` is where it lies."""
        staged = beam_files.join(self.staging, f"{time.time_ns():x}-{before.name}")
        beam_files.copy(before.staged, staged)
        yield before._replace(staged=staged)


class DropRecords(beam.DoFn):
    """`(shard, recordings that must go)` -> the shard without them."""

    def __init__(self, staging: str) -> None:
        self.staging = staging

    def process(self, element: tuple[ShardResult, frozenset[str]]) -> Iterator[ShardResult]:
        """Copies the records that stay; they are not decoded."""
        result, dropped = element
        if not dropped:
            yield result
            return
        file, kept = _ShardFile(self.staging, result.name), []
        with beam_files.open_stream(result.staged) as stream:
            for entry, payload in zip(result.entries, tfrecord.read_frames(stream), strict=True):
                if entry.recording_id not in dropped:
                    file.append(tfrecord.frame(payload))
                    kept.append(entry)
        path, size, sha256 = file.close()
        yield result._replace(staged=path, bytes=size, sha256=sha256, packed=pack(kept), invalid=frozenset())


def _at_hand(stream: BinaryIO, size: int) -> tuple[BinaryIO, str]:
    """A source as a stream to jump in, and its SHA-256; small ones in memory."""
    if size <= WHOLE_FILE_BYTES:
        data = stream.read()
        return io.BytesIO(data), hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    while part := stream.read(HASHED_BYTES):
        digest.update(part)
    stream.seek(0)
    return stream, digest.hexdigest()


def _rejected(clip: Clip, bad: decode.BadAudioError) -> Rejected:
    # Covers, notes and tables lie beside music everywhere; they are no failed recordings.
    nothing_claimed = bad.reason in ("not_audio", "empty_file") and not is_audio_name(clip.uri)
    return Rejected(clip.uri, "other_file" if nothing_claimed else bad.reason, bad.detail)
