import hashlib
import json

import pytest

from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.records import RecordEntry
from preprocessing.pipeline import merge
from preprocessing.pipeline.merge import merge_quarantine, merge_records
from preprocessing.pipeline.shard_files import ShardDescription, finish_shard


def entry(number, split="train"):
    track_id = f"rock.{number:05d}"
    tempo_bpm = None if number % 3 == 0 else 100.0 + number
    key = (None, "A minor", "F major")[number % 3]
    attributes = (-10.0 - number, 500.0, tempo_bpm, 0.5)
    return RecordEntry(track_id, track_id, "rock", split, "s", 0.0, 9, *attributes, key, 0.25, "u", "0", "ff")


@pytest.fixture(params=[32, 3])
def shards(request, tmp_path, monkeypatch):
    """Seven shards with interleaved entries, and the entries; at most so many files are open at once."""
    monkeypatch.setattr(merge, "MAX_OPEN_FILES", request.param)
    (tmp_path / "rejected.jsonl").write_text(Rejected("b", "other_file", "x").to_json() + "\n")
    shards, entries = [], []
    for index in range(7):
        split = "test" if index == 6 else "train"
        own = [entry(number, split) for number in range(index, 70, 7)]
        rejected = [Rejected(f"{index}", "corrupt", "x"), Rejected("c", "corrupt", "read for two splits")]
        name = f"{split}-{index:05d}-of-00007.tfrecord"
        description = ShardDescription(own, rejected)
        shards.append(finish_shard(name, ("path", 1, ""), description, str(tmp_path), is_reusable=True))
        entries += own
    return shards, sorted(entries)


def test_records_are_merged_in_order_and_summarized(shards, tmp_path):
    finals, entries = shards
    summary = merge_records(finals, str(tmp_path))
    content = (tmp_path / "records.jsonl").read_bytes()
    assert content == "".join(f"{one.to_json()}\n" for one in entries).encode()
    assert summary.sha256 == hashlib.sha256(content).hexdigest()
    assert summary.recordings == 70
    training = [one for one in entries if one.split == "train"]
    tempi = [one.tempo_bpm for one in training if one.tempo_bpm]
    assert summary.attributes["tempo_bpm"].mean == pytest.approx(sum(tempi) / len(tempi))
    assert [row["loudness_db"] for row in summary.empirical_conditions] == [
        one.loudness_db for one in training
    ]
    assert [row["key"] for row in summary.empirical_conditions] == [one.key for one in training]
    counts = {key: sum(one.key == key for one in training) for key in ("F major", "A minor")}
    assert list(summary.keys.items()) == list(counts.items())


def test_a_file_that_was_rejected_twice_for_one_reason_has_one_line(shards, tmp_path):
    assert merge_quarantine(shards[0], str(tmp_path)) == {"corrupt": 8, "other_file": 1}
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [row["uri"] for row in rows] == ["0", "1", "2", "3", "4", "5", "6", "b", "c"]
