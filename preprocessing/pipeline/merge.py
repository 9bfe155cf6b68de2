"""Merge the sorted lines that workers wrote for each shard to `records.jsonl` and `quarantine.jsonl`.

The lines pass through as streams; in memory are a few numbers per record of the training split.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import io
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from preprocessing.dataset.example import Attributes
from preprocessing.dataset.keys import KEYS
from preprocessing.dataset.manifest import MAX_EMPIRICAL_CONDITIONS, Statistics, compute_statistics
from preprocessing.dataset.quarantine import QUARANTINE_NAME, Rejected
from preprocessing.dataset.records import RECORDS_NAME
from preprocessing.pipeline.shard_files import FinalShard, staged_path
from preprocessing.pipeline.staging import REJECTED_NAME
from preprocessing.storage import beam_files

MAX_OPEN_FILES = 32  # a stream from object storage has a buffer of 16 MB
RECORD_ORDER = ("track_id", "recording_id", "genre", "split")  # which no two records share
SUMMARIZED_SPLIT = "train"  # a model uses the statistics

Line = tuple[dict[str, Any], bytes]  # parsed and not, with its newline


class RecordsSummary(NamedTuple):
    """What the manifest states of `records.jsonl`."""

    sha256: str
    recordings: int  # of which one may be in two splits, by the reference's lists
    attributes: dict[str, Statistics]
    keys: dict[str, int]
    empirical_conditions: list[
        dict[str, str | float | None]
    ]  # evenly spaced entries: genre, attributes and key


def merge_quarantine(shards: list[FinalShard], staging: str) -> dict[str, int]:
    """Stage `quarantine.jsonl`, with the files that the plan rejected; return the number of lines by reason.

    A file that was rejected for two splits, by the reference's lists, has one line.
    """
    reasons: Counter[str] = Counter()
    paths = [beam_files.join(staging, REJECTED_NAME), *(shard.quarantine for shard in shards)]
    with beam_files.create(beam_files.join(staging, QUARANTINE_NAME)) as stream:
        for row, line in _merge_lines(paths, Rejected._fields, staging):
            reasons[row["reason"]] += 1
            stream.write(line)
    return dict(sorted(reasons.items()))


def merge_records(shards: list[FinalShard], staging: str) -> RecordsSummary:
    """Stage `records.jsonl`; return its summary."""
    count = sum(sum(shard.genres.values()) for shard in shards if shard.split == SUMMARIZED_SPLIT)
    ranks = min(count, MAX_EMPIRICAL_CONDITIONS)
    chosen = {count * rank // ranks for rank in range(ranks)}
    values = {name: array("d") for name in Attributes._fields}
    keys: Counter[str | None] = Counter()
    conditions: list[dict[str, str | float | None]] = []
    digest, recordings, previous, number = hashlib.sha256(), 0, "", 0
    with beam_files.create(beam_files.join(staging, RECORDS_NAME)) as stream:
        for row, line in _merge_lines([shard.records for shard in shards], RECORD_ORDER, staging):
            stream.write(line)
            digest.update(line)
            if row["fingerprint"] and row["track_id"] != previous:  # the first clip, which each recording has
                recordings, previous = recordings + 1, row["track_id"]
            if row["split"] != SUMMARIZED_SPLIT:
                continue
            for name in values:
                values[name].append(math.nan if row[name] is None else row[name])
            keys[row["key"]] += 1
            if number in chosen:
                conditions.append({name: row[name] for name in ("genre", *Attributes._fields, "key")})
            number += 1
    statistics = {name: compute_statistics(measured) for name, measured in values.items()}
    attributes = {name: summary for name, summary in statistics.items() if summary}
    known_keys = {key: keys[key] for key in KEYS if keys[key]}
    return RecordsSummary(digest.hexdigest(), recordings, attributes, known_keys, conditions)


def _merge_lines(paths: list[str], order: tuple[str, ...], staging: str) -> Iterator[Line]:
    """Yield the lines of files of JSON, sorted; of equal ones, one.

    Args:
        paths: The files; the lines of each are sorted.
        order: The fields to sort by, which are strings.
        staging: A folder for intermediate files, if there are too many to be open at once.
    """
    while len(paths) > MAX_OPEN_FILES:
        groups = [paths[start : start + MAX_OPEN_FILES] for start in range(0, len(paths), MAX_OPEN_FILES)]
        paths = [_merge_to_file(group, order, staging) for group in groups]
    yield from _merge_open(paths, order)


def _merge_to_file(paths: list[str], order: tuple[str, ...], staging: str) -> str:
    merged = staged_path(staging, "merged")
    with beam_files.create(merged) as stream:
        for _, line in _merge_open(paths, order):
            stream.write(line)
    return merged


def _merge_open(paths: list[str], order: tuple[str, ...]) -> Iterator[Line]:
    def key(line: Line) -> tuple[str, ...]:
        return tuple(line[0][field] for field in order)

    with contextlib.ExitStack() as stack:
        previous = b""
        for row, line in heapq.merge(*(_read_lines(path, stack) for path in paths), key=key):
            if line != previous:
                yield row, line
            previous = line


def _read_lines(path: str, stack: contextlib.ExitStack) -> Iterator[Line]:
    unbuffered: Any = stack.enter_context(
        beam_files.open_stream(path)
    )  # on object storage, it reads lines bytewise
    stream = stack.enter_context(io.BufferedReader(unbuffered))
    return ((json.loads(line), line) for line in stream)
