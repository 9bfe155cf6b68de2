import json
import os

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import TINY

from preprocessing.__main__ import main


def add_version(music, datasets, number):
    """Add a recording and run the job; return the digest of the new version."""
    rng = np.random.default_rng(number)
    (music / "rock").mkdir(parents=True, exist_ok=True)
    for take in range(3 if number == 0 else 1):
        soundfile.write(music / f"rock/{number} {take}.wav", rng.normal(0, 0.1, 1_300), 1_000)
    assert main(["--input", str(music), "--output", str(datasets), *TINY, "--versioned"]) == 0
    return (datasets / "LATEST").read_text().strip()


@pytest.fixture
def versions(tmp_path):
    """Four versions, the oldest first, whose times differ."""
    digests = []
    for number in range(4):
        digests.append(add_version(tmp_path / "music", tmp_path / "datasets", number))
        manifest = tmp_path / "datasets" / digests[-1] / "dataset.json"
        os.utime(manifest, (1_000_000 + number, 1_000_000 + number))
    return digests


def existing(tmp_path):
    return {folder.parent.name for folder in (tmp_path / "datasets").glob("*/dataset.json")}


def prune(tmp_path, *flags):
    return main(["prune", "--datasets", str(tmp_path / "datasets"), *flags])


def test_without_yes_nothing_is_deleted(versions, tmp_path, capsys):
    assert prune(tmp_path, "--keep-versions", "1") == 0
    said = capsys.readouterr().out
    assert "3 of 4 versions" in said
    assert "--yes deletes them" in said
    assert existing(tmp_path) == set(versions)


def test_the_newest_versions_are_kept(versions, tmp_path):
    notes = tmp_path / "datasets" / versions[0] / "notes.txt"
    notes.write_text("a user's own")
    assert prune(tmp_path, "--keep-versions", "2", "--yes") == 0
    assert existing(tmp_path) == set(versions[2:])
    left = (path for digest in versions[:2] for path in (tmp_path / "datasets" / digest).iterdir())
    assert {path.name for path in left} == {"records.jsonl", notes.name}
    assert notes.read_text() == "a user's own"
    assert main(["inspect", str(tmp_path / "datasets")]) == 0


def test_what_an_interrupted_deletion_or_another_schema_left_is_deleted(versions, tmp_path):
    folders = [tmp_path / "datasets" / digest for digest in versions]
    (folders[0] / "dataset.json").unlink()
    manifest = json.loads((folders[1] / "dataset.json").read_text())
    (folders[1] / "dataset.json").write_text(json.dumps({**manifest, "schema_version": 1}))
    os.utime(folders[1] / "dataset.json", (1_000_001, 1_000_001))
    for shard in folders[0].glob("*.tfrecord"):
        os.utime(shard, (1_000_000, 1_000_000))
    assert prune(tmp_path, "--keep-versions", "1", "--yes") == 0
    for folder in folders[:3]:
        assert [path.name for path in folder.iterdir()] == ["records.jsonl"]


def test_the_current_version_is_kept_even_if_it_is_old(versions, tmp_path):
    (tmp_path / "datasets/LATEST").write_text(versions[0])
    assert prune(tmp_path, "--keep-versions", "1", "--yes") == 0
    assert existing(tmp_path) == {versions[0], versions[3]}


def test_what_a_champion_was_trained_on_is_kept(versions, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    champion = {"candidate": f"{versions[1][:12]}-0123456789ab"}
    (tmp_path / "models/champion.json").write_text(json.dumps(champion))
    assert prune(tmp_path, "--keep-versions", "1", "--models", str(tmp_path / "models"), "--yes") == 0
    assert existing(tmp_path) == {versions[1], versions[3]}
    assert "the champion of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--keep-versions", "0"], 2, "at least 1"),
        (["--keep-versions", "1"], 3, "has no versions"),
        (["--keep-versions", "1", "--models", "nowhere"], 3, "has no versions"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(tmp_path, capsys, flags, code, message):
    (tmp_path / "datasets").mkdir()
    try:
        assert prune(tmp_path, *flags) == code
    except SystemExit as stopped:
        assert stopped.code == code
    assert message in capsys.readouterr().err


def test_a_folder_of_models_without_a_champion_is_refused(versions, tmp_path, capsys):
    assert prune(tmp_path, "--keep-versions", "1", "--models", str(tmp_path / "modles"), "--yes") == 3
    assert "check --models" in capsys.readouterr().err
    assert existing(tmp_path) == set(versions)
