"""The steps that produce staged shards: decode source files into a new one, or reuse an unchanged one."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import apache_beam as beam

from preprocessing.audio.decode import DecodedClip, decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.records import RecordEntry
from preprocessing.dataset.splits import is_audio_name
from preprocessing.features import fingerprint
from preprocessing.features.attributes import measure
from preprocessing.features.key import find_key
from preprocessing.options import AudioFormat
from preprocessing.pipeline.plan import SourceFile
from preprocessing.pipeline.shard_files import ShardDescription, ShardWriter, StagedShard, staged_path
from preprocessing.sources.archives import CORRUPT_ARCHIVE_ERRORS
from preprocessing.sources.opener import Opener
from preprocessing.storage import beam_files

MAX_IN_MEMORY_BYTES = 16 << 20  # larger source files are read in parts, to bound a worker's memory
HASH_BLOCK_BYTES = 1 << 20
COMPANION_REASONS = (
    "not_audio",
    "empty_file",
    "unsupported_codec",
    "no_samples",
)  # unless the name claims audio


class WriteShard(beam.DoFn):
    """`(shard name, its source files)` -> `StagedShard`, keyed by its number."""

    def __init__(
        self, audio_format: AudioFormat, staging: str, excluded_sha256: frozenset[str] = frozenset()
    ) -> None:
        self.audio_format = audio_format
        self.staging = staging
        self.excluded_sha256 = excluded_sha256

    def process(self, element: tuple[str, Iterable[SourceFile]]) -> Iterator[tuple[int, StagedShard]]:
        """Decode each file, write the records of the good ones and collect the reasons of the others."""
        name, files = element
        writer, opener = ShardWriter(self.staging, name), Opener(self.staging)
        entries: list[RecordEntry] = []
        rejected: list[Rejected] = []
        failed: set[str] = set()
        for file in sorted(files, key=lambda file: file.recording_id):
            losses: list[str] = []
            try:
                for entry, framed in self._records(file, opener, losses):
                    writer.append(framed)
                    entries.append(entry)
            except BadAudioError as error:
                rejected.append(_rejection(file, error))
                failed.add(file.recording_id)
            else:
                if losses:
                    rejected.append(Rejected(file.uri, "partly_read", "; ".join(dict.fromkeys(losses))))
        opener.close()
        invalid = frozenset(failed & {entry.recording_id for entry in entries})
        description = ShardDescription(entries, rejected, invalid).write(self.staging, name)
        yield StagedShard(name, *writer.close(), description).keyed()

    def _records(
        self, file: SourceFile, opener: Opener, losses: list[str]
    ) -> Iterator[tuple[RecordEntry, bytes]]:
        """Yield the entry and the framed record of each clip of a file; add what cannot be decoded to `losses`."""
        try:
            with opener.open(file.uri, file.archive, file.offset) as stream:
                source, source_sha256 = _hash_source(stream, file.size)
                if source_sha256 in self.excluded_sha256:
                    raise BadAudioError("excluded", f"its SHA-256, {source_sha256}, is left out on purpose")
                for number, clip in enumerate(decode_clips(source, self.audio_format, losses.append)):
                    yield self._record(file, clip, source_sha256, is_first=number == 0)
        except CORRUPT_ARCHIVE_ERRORS as error:
            raise BadAudioError("corrupt_archive", str(error) or type(error).__name__) from error
        except OSError as error:  # includes BeamIOError
            if file.archive and type(error) is OSError and error.errno is None:  # bz2's, for wrong data
                raise BadAudioError("corrupt_archive", str(error)) from error
            reason = "no_permission" if isinstance(error, PermissionError) else "unreadable"
            raise BadAudioError(reason, str(error)) from error

    def _record(
        self, file: SourceFile, clip: DecodedClip, source_sha256: str, is_first: bool
    ) -> tuple[RecordEntry, bytes]:
        samples = clip.waveform[: clip.valid_samples]
        attributes = measure(samples, self.audio_format.sample_rate_hz)
        key = find_key(samples, self.audio_format.sample_rate_hz)
        start = f"@{clip.start_secs:g}" if self.audio_format.hop_secs else ""
        record = example.Record(
            audio=clip.waveform,
            track_id=file.recording_id + start,
            genre=file.genre,
            sample_rate_hz=self.audio_format.sample_rate_hz,
            valid_samples=clip.valid_samples,
            source_sha256=source_sha256,
            source_uri=file.uri,
            attributes=attributes,
            key=key,
        )
        entry = RecordEntry(
            track_id=record.track_id,
            recording_id=file.recording_id,
            genre=file.genre,
            split=file.shard.split("-")[0],
            shard=file.shard,
            start_secs=clip.start_secs,
            valid_samples=clip.valid_samples,
            **{name: _or_none(value) for name, value in attributes._asdict().items()},
            key=key.name or None,
            key_clarity=_or_none(key.clarity),
            source_uri=file.uri,
            source_sha256=source_sha256,
            fingerprint=fingerprint.fingerprint(samples) if is_first else "",
            license=file.license,
            attribution=file.attribution,
        )
        return entry, tfrecord.frame(example.encode(record))


class ReuseShard(beam.DoFn):
    """`StagedShard` whose file is in the previous dataset -> the same with a copy of the file, keyed by its number."""

    def __init__(self, staging: str) -> None:
        self.staging = staging

    def process(self, previous: StagedShard) -> Iterator[tuple[int, StagedShard]]:
        """Copy the file."""
        path = staged_path(self.staging, previous.name)
        beam_files.copy(previous.path, path)
        yield previous._replace(path=path).keyed()


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _hash_source(stream: BinaryIO, size: int) -> tuple[BinaryIO, str]:
    """Return a seekable stream of a source file, in memory if it is small, and its SHA-256."""
    if size <= MAX_IN_MEMORY_BYTES:
        data = stream.read()
        return io.BytesIO(data), hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    while block := stream.read(HASH_BLOCK_BYTES):
        digest.update(block)
    stream.seek(0)
    return stream, digest.hexdigest()


def _rejection(file: SourceFile, error: BadAudioError) -> Rejected:
    # Covers, scores, lyrics and projects are common beside music; they do not count as failed recordings.
    is_other_file = error.reason in COMPANION_REASONS and not is_audio_name(file.uri)
    return Rejected(file.uri, "other_file" if is_other_file else error.reason, error.detail)
