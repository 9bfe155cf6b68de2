"""A dozen recordings of one's own band, or three: the splits that a digest leaves empty are filled."""

import hashlib
import json

import pytest
from support.tiny_corpus import TINY, write_clip

from preprocessing.__main__ import main
from preprocessing.dataset.manifest import Manifest


def run(folder, output, *flags):
    return main(["--input", str(folder), "--output", str(output), *TINY, *flags])


def read(output):
    manifest = Manifest.from_json((output / "dataset.json").read_bytes(), "")
    entries = [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]
    return manifest, {entry["recording_id"]: entry["split"] for entry in entries}


def shard_digests(output):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in output.glob("*.tfrecord")}


@pytest.fixture
def band(tmp_path):
    """Twelve takes, none of which a digest puts into the test split."""
    for number in range(12):
        write_clip(tmp_path / f"in/band/take {number}.wav", number)
    return tmp_path / "in"


@pytest.mark.parametrize(
    "flags", [[], ["--clip-secs", "0.25", "--hop-secs", "0.25", "--clip-samples", "1000"]]
)
def test_a_dozen_recordings_have_a_test_split_and_the_summary_warns_that_it_is_small(
    band, tmp_path, capsys, flags
):
    assert run(band, tmp_path / "out", *flags) == 0
    assert "warning: the test split has 1 of the 12 recordings" in capsys.readouterr().out
    manifest, splits = read(tmp_path / "out")
    assert manifest.recordings == {"train": 10, "validation": 1, "test": 1}
    assert set(splits.values()) == {"train", "validation", "test"}
    assert main(["inspect", str(tmp_path / "out")]) == 0


def test_a_later_job_gives_the_same_splits_and_the_same_bytes(band, tmp_path, capsys):
    assert run(band, tmp_path / "out") == 0
    before = read(tmp_path / "out")[1]
    assert run(band, tmp_path / "out") == 0
    assert "nothing to do" in capsys.readouterr().out
    write_clip(band / "band/take 12.wav", 12)
    assert run(band, tmp_path / "out") == 0
    manifest, after = read(tmp_path / "out")
    assert min(manifest.recordings.values()) == 1
    assert sum(after[name] != split for name, split in before.items()) <= 2
    assert run(band, tmp_path / "afresh") == 0
    assert shard_digests(tmp_path / "afresh") == shard_digests(tmp_path / "out")
    assert read(tmp_path / "afresh")[0].digest == manifest.digest
    assert main(["inspect", str(tmp_path / "out")]) == 0


def test_copies_do_not_fill_a_split(tmp_path):
    for number in range(3):
        write_clip(tmp_path / f"in/band/take {number}.wav", number)
        (tmp_path / f"in/band/copy {number}.wav").write_bytes(
            (tmp_path / f"in/band/take {number}.wav").read_bytes()
        )
    assert run(tmp_path / "in", tmp_path / "out") == 0
    manifest, _ = read(tmp_path / "out")
    assert manifest.recordings == dict.fromkeys(("train", "validation", "test"), 1)
    assert manifest.quarantined == {"duplicate": 3}


def test_one_recording_is_refused_with_what_to_do(tmp_path, capsys):
    for name in ("a", "b"):
        write_clip(tmp_path / f"in/band/{name}.wav", 1)
    assert run(tmp_path / "in", tmp_path / "out") == 3
    assert "there is only one recording" in capsys.readouterr().err
    assert not (tmp_path / "out/dataset.json").exists()
    write_clip(tmp_path / "in/band/c.wav", 2)
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert read(tmp_path / "out")[0].recordings == {"train": 1, "validation": 0, "test": 1}
