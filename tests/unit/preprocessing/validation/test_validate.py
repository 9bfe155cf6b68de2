"""`inspect`: a valid dataset passes with its statistics, and each fault is reported in one line."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.inputs.draft_dataset import CLIP_SAMPLES, TEST_0, TRAIN, TRAIN_0, TRAIN_1, make_record

from preprocessing.dataset import records, tfrecord
from preprocessing.dataset.manifest import MANIFEST_NAME
from preprocessing.dataset.quarantine import QUARANTINE_NAME, Rejected
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.storage import beam_files
from preprocessing.validation.validate import MAX_SHOWN_FAULTS, inspect_dataset


@pytest.fixture
def faults(capsys):
    """Return a function that inspects a corrupt dataset and returns the faults that are printed."""

    def inspect(uri):
        with pytest.raises(CommandError, match=r"is corrupt, faults found: \d+.*; delete it") as caught:
            inspect_dataset(uri)
        assert caught.value.exit_code == BAD_DATA
        return capsys.readouterr().out.splitlines()

    return inspect


def test_a_valid_dataset_passes_with_its_statistics(draft):
    draft.rejected = [
        Rejected("/corpus/jazz/a.wav", "not_audio", "no"),
        Rejected("/corpus/jazz/b.wav", "duplicate", "the same recording as /corpus/jazz/jazz.00000.wav"),
    ]
    lines = inspect_dataset(draft.write()).splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert cells["jazz"] == ["4", "0", "2", "0:00:12", "-13.8", "200.3", "120.0", "75.0"]
    assert cells["rock"] == ["4", "0", "2", "0:00:12", "-13.8", "200.3", "-", "-"]
    assert cells["all"][:4] == ["8", "0", "4", "0:00:24"]
    assert cells["shards"] == ["2", "0", "1"]
    assert cells["MB"] == ["0.1", "0.0", "0.0"]
    assert "keys: 12 of 12 clips, most often A minor 6, F major 6" in lines
    assert "quarantined: 1 (not_audio 1)" in lines
    assert "skipped: 1 (duplicate 1)" in lines
    assert re.fullmatch(rf"{draft.folder}: digest [0-9a-f]{{12}}", lines[-2])
    assert lines[-1] == "verified: 3 shards, 12 records, all checksums valid"


def with_sample(index, value):
    """Return the audio of the first record with one sample changed."""
    audio = make_record(TRAIN[0]).audio
    audio[index] = value
    return audio


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"audio": with_sample(3, np.nan)}, "NaN or infinite samples"),
        ({"audio": with_sample(3, -1.5)}, "samples outside [-1, 1], up to 1.5"),
        ({"audio": with_sample(-1, 0.1)}, "the padding, from sample 2,000 on, is not zero"),
        ({"audio": np.zeros(100, np.float32)}, "100 samples instead of 2,048"),
        ({"sample_rate_hz": 500}, "sample_rate_hz is 500, not 1000"),
    ],
)
def test_a_record_in_another_format_is_a_fault(draft, faults, changes, fault):
    draft.change(TRAIN_0, 0, **changes)
    assert faults(draft.write()) == [f"{TRAIN_0}: record 1 (jazz.00000): {fault}"]


@pytest.mark.parametrize("valid_samples", [0, -1, CLIP_SAMPLES + 1])
def test_valid_samples_must_be_from_one_to_the_clips_length(draft, faults, valid_samples):
    draft.change(TRAIN_1, 3, valid_samples=valid_samples)
    draft.update_entries()
    fault = f"valid_samples is {valid_samples:,}, outside 1 to 2,048"
    assert faults(draft.write()) == [f"{TRAIN_1}: record 4 (rock.00003): {fault}"]


@pytest.mark.parametrize(
    ("changes", "actual", "listed"),
    [
        ({"genre": "rock"}, "'jazz'", "'rock'"),
        ({"valid_samples": 7}, "2000", "7"),
        ({"tempo_bpm": 119.0}, "120.0", "119.0"),
        ({"tempo_bpm": None}, "120.0", "None"),
        ({"beat_clarity": 0.5}, "0.75", "0.5"),
        ({"key": None}, "'A minor'", "None"),
        ({"key_clarity": 0.5}, "0.25", "0.5"),
        ({"source_sha256": "cd"}, repr("ab" * 32), "'cd'"),
        ({"source_uri": "/x"}, "'/corpus/jazz/jazz.00000.wav'", "'/x'"),
        ({"shard": TRAIN_1}, repr(TRAIN_0), repr(TRAIN_1)),
    ],
)
def test_an_entry_that_differs_from_its_record_is_a_fault(draft, faults, changes, actual, listed):
    draft.change_entry(0, **changes)
    (name,) = changes
    fault = f"{TRAIN_0}: record 1 (jazz.00000): {name} is {actual}, but {listed} in records.jsonl"
    assert faults(draft.write()) == [fault]


def test_a_value_for_an_attribute_that_could_not_be_measured_is_a_fault(draft, faults):
    draft.change_entry(2, tempo_bpm=120.0)
    assert faults(draft.write()) == [
        f"{TRAIN_0}: record 3 (rock.00000): tempo_bpm is None, but 120.0 in records.jsonl"
    ]


def test_a_flipped_bit_is_reported_with_its_record_and_offset(draft, faults):
    shard = Path(draft.write()) / TRAIN_0
    content = bytearray(shard.read_bytes())
    size = len(content) // 4
    content[size + size // 2] ^= 1
    shard.write_bytes(content)
    assert faults(str(draft.folder)) == [
        f"{TRAIN_0}: record 2: corrupt record at byte {size}; the rest of the shard is not checked",
        f"{TRAIN_0}: its SHA-256 differs from the one in dataset.json",
    ]


def test_a_truncated_shard_is_a_fault(draft, faults):
    shard = Path(draft.write()) / TEST_0
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    lines = faults(str(draft.folder))
    assert lines[0].startswith(f"{TEST_0}: record 4: corrupt record at byte")
    assert lines[1] == f"{TEST_0}: {size - 10:,} bytes instead of {size:,}"
    assert len(lines) == 3


def test_a_shard_without_its_last_record_is_a_fault(draft, faults):
    shard = Path(draft.write()) / TEST_0
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[: size // 4 * 3])
    assert faults(str(draft.folder)) == [
        f"{TEST_0}: 3 records instead of 4",
        f"{TEST_0}: {size // 4 * 3:,} bytes instead of {size:,}",
        f"{TEST_0}: its SHA-256 differs from the one in dataset.json",
        "dataset.json: it lists 2 clips of rock in test, the shards have 1",
        f"records.jsonl: rock.00009 is in no shard; expected in {TEST_0}",
    ]


def test_a_missing_shard_is_a_single_fault(draft, faults):
    (Path(draft.write()) / TRAIN_1).unlink()
    assert faults(str(draft.folder)) == [f"{TRAIN_1}: the file is missing"]


def test_wrong_counts_genres_and_digest_are_faults(draft, faults):
    counts = {"train": {"jazz": 5, "rock": 4}, "validation": {}, "test": {"jazz": 2, "rock": 2}}
    assert faults(draft.write(counts=counts, digest="ab", genres=["jazz"])) == [
        "dataset.json: it lists 5 clips of jazz in train, the shards have 4",
        "dataset.json: it lists the genres ['jazz'], the shards have ['jazz', 'rock']",
        "dataset.json: its digest does not match its options and shards",
    ]


def test_a_record_in_two_shards_is_a_fault(draft, faults):
    draft.shards[TRAIN_1].append(draft.shards[TRAIN_0][0])
    draft.update_entries()
    assert faults(draft.write()) == [
        "records.jsonl: line 2: duplicate entry for jazz.00000",
        f"{TRAIN_0}: record 1 (jazz.00000): shard is '{TRAIN_0}', but '{TRAIN_1}' in records.jsonl",
        f"{TRAIN_1}: record 5 (jazz.00000): duplicate track_id, also in {TRAIN_0}",
    ]


def test_a_recording_in_two_splits_is_a_fault(draft, faults):
    draft.change_entry(0, recording_id="jazz.00008")
    assert faults(draft.write()) == ["records.jsonl: recording jazz.00008 is in both test and train"]


def test_a_track_may_be_in_two_splits_of_the_reference_rule_only(draft, faults):
    draft.shards[TEST_0].append(draft.shards[TRAIN_0][0])
    draft.update_entries()
    draft.options = {"split": "reference"}
    assert "13 records" in inspect_dataset(draft.write())
    draft.options = {"split": "hash"}
    assert len(faults(draft.write())) >= 3


def test_a_record_that_is_not_an_example_is_a_fault(draft, faults):
    folder = Path(draft.write())
    content = tfrecord.frame(b"\xff\xff") + tfrecord.frame(b"")
    (folder / TEST_0).write_bytes(content)
    lines = faults(str(folder))
    assert [line.split(" (")[0] for line in lines[:2]] == [
        f"{TEST_0}: record {number}: it cannot be decoded" for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "its SHA-256 differs from the one in dataset.json"),
        (b"{}\n", "line 1 is corrupt"),
        (b"no\n", "line 1 is corrupt"),
        (None, "the file is missing"),
    ],
)
@pytest.mark.parametrize("name", [records.RECORDS_NAME, QUARANTINE_NAME])
def test_corrupt_or_missing_lists_are_faults(draft, faults, name, content, fault):
    path = Path(draft.write()) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    if (name, content) == (QUARANTINE_NAME, b""):
        assert inspect_dataset(str(draft.folder))
        return
    assert any(line.startswith(f"{name}: {fault}") for line in faults(str(draft.folder)))


def test_a_value_of_a_wrong_type_is_a_fault(draft, faults):
    draft.change_entry(0, track_id=5)
    draft.change_entry(1, loudness_db="loud")
    draft.entries.sort(key=lambda entry: str(entry.track_id))
    text = "".join(f"{entry.to_json()}\n" for entry in draft.entries).encode()
    draft.entries = []
    folder = Path(draft.write(records_sha256=hashlib.sha256(text).hexdigest()))
    (folder / records.RECORDS_NAME).write_bytes(text)
    lines = faults(str(folder))
    assert "records.jsonl: line 1 is corrupt (track_id is 5)" in lines
    assert any("loudness_db is 'loud'" in line for line in lines)


def test_all_faults_are_printed_up_to_a_maximum(draft, faults, capsys):
    (Path(draft.write()) / TRAIN_0).unlink()
    (draft.folder / TEST_0).unlink()
    (draft.folder / QUARANTINE_NAME).unlink()
    assert len(faults(str(draft.folder))) == 3
    for name, shard_records in draft.shards.items():
        for index in range(len(shard_records)):
            draft.change(name, index, sample_rate_hz=1, valid_samples=0, genre="pop", source_uri="/x")
    with pytest.raises(CommandError, match=r"faults found: \d+ \(\d+ not shown\)"):
        inspect_dataset(draft.write())
    assert len(capsys.readouterr().out.splitlines()) == MAX_SHOWN_FAULTS


def test_a_fault_is_one_line_even_if_a_track_id_contains_a_newline(draft, faults):
    draft.change(TRAIN_0, 0, track_id="jazz\n.0")
    assert faults(draft.write()) == [
        f"{TRAIN_0}: record 1 (jazz .0): records.jsonl has no entry for it",
        f"records.jsonl: jazz.00000 is in no shard; expected in {TRAIN_0}",
    ]


def test_a_dataset_without_records_is_a_fault(draft, faults):
    draft.shards, draft.entries = {}, []
    assert faults(draft.write(genres=[])) == ["dataset.json: the dataset has no records"]


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_missing_or_corrupt_manifest_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(CommandError, match=r"dataset.json .*preprocess") as caught:
        inspect_dataset(str(tmp_path))
    assert caught.value.exit_code == BAD_DATA


def test_the_latest_version_is_inspected(draft, faults, tmp_path):
    draft.write()
    digest = json.loads((draft.folder / MANIFEST_NAME).read_bytes())["digest"]
    root = tmp_path / "versions"
    root.mkdir()
    (root / "LATEST").write_text(f"{digest}\n")
    draft.folder.rename(root / digest)
    assert f"{root}/{digest}: digest {digest[:12]}" in inspect_dataset(str(root))
    (root / "LATEST").write_text("ab" * 32)
    (root / digest).rename(root / ("ab" * 32))
    assert faults(str(root)) == [f"dataset.json: its digest is {digest}, but LATEST names another one"]


def test_a_dataset_in_a_bucket_is_inspected_and_its_page_written_to_the_bucket(draft, storage_server):
    draft.write()
    for path in draft.folder.iterdir():
        beam_files.write(f"{storage_server}/inspected/{path.name}", path.read_bytes())
    page_uri = f"{storage_server}/pages/music.html"
    assert "all checksums valid" in inspect_dataset(f"{storage_server}/inspected", page_uri)
    assert beam_files.read(page_uri).startswith(b"<!doctype html>")
