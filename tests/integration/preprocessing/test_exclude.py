import hashlib
import json

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import TINY

from preprocessing.__main__ import main


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    folder = tmp_path_factory.mktemp("band")
    rng = np.random.default_rng(0)
    for genre, count in (("rock", 12), ("jazz", 6)):
        (folder / genre).mkdir()
        for number in range(count):
            soundfile.write(folder / genre / f"{genre}.{number:05d}.wav", rng.normal(0, 0.1, 1_300), 1_000)
    return folder


def preprocess(band, output, lines=(), *flags):
    """Return the exit code, the records by recording id, and the quarantine by URI."""
    listed = output.with_name(f"{output.name}.txt")
    listed.write_text("# left out\n" + "".join(f"{line}\n" for line in lines))
    code = main(["--input", str(band), "--output", str(output), *TINY, "--exclude", str(listed), *flags])
    records = [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]
    rejected = [json.loads(line) for line in (output / "quarantine.jsonl").read_text().splitlines()]
    return (
        code,
        {record["recording_id"]: record for record in records},
        {line["uri"]: line for line in rejected},
    )


def digest(folder):
    return json.loads((folder / "dataset.json").read_text())["digest"]


@pytest.mark.parametrize("kind", ["uri", "path", "id", "sha256", "record", "file uri"])
def test_a_listed_recording_is_left_out_with_a_line(band, tmp_path, kind):
    _, all_records, _ = preprocess(band, tmp_path / "all")
    path = band / "rock/rock.00003.wav"
    line = {
        "uri": str(path),
        "path": "rock/rock.00003.wav",
        "id": "rock.00003",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "record": json.dumps(all_records["rock.00003"]),
        "file uri": path.as_uri(),
    }[kind]
    code, records, rejected = preprocess(band, tmp_path / "some", [line])
    assert code == 0
    assert records.keys() == all_records.keys() - {"rock.00003"}
    assert rejected[str(path)]["reason"] == "excluded"
    assert digest(tmp_path / "some") != digest(tmp_path / "all")


def test_a_listed_folder_is_left_out_as_a_whole(band, tmp_path):
    _, records, rejected = preprocess(band, tmp_path / "out", ["jazz/"])
    assert {record["genre"] for record in records.values()} == {"rock"}
    assert len(rejected) == 6


def test_a_line_of_the_quarantine_excludes_its_file(band, tmp_path):
    line = json.dumps({"uri": str(band / "jazz/jazz.00001.wav"), "reason": "duplicate", "detail": ""})
    _, records, _ = preprocess(band, tmp_path / "out", [line])
    assert "jazz.00001" not in records


def test_a_name_that_matches_nothing_is_reported(band, tmp_path, capsys):
    code, records, _ = preprocess(band, tmp_path / "out", ["rock/rock.99999.wav", "blues"])
    assert (code, len(records)) == (0, 18)
    assert "--exclude lists blues and 1 other names, which the input does not have" in capsys.readouterr().out


@pytest.mark.parametrize("by_digest", [False, True])
def test_a_changed_list_makes_the_dataset_that_a_new_job_makes(band, tmp_path, capsys, by_digest):
    path = band / "rock/rock.00005.wav"
    line = hashlib.sha256(path.read_bytes()).hexdigest() if by_digest else "rock.00005"
    for lines in ([line], [], [line]):
        capsys.readouterr()
        preprocess(band, tmp_path / "again", lines)
    assert "shards are reused" in capsys.readouterr().out
    preprocess(band, tmp_path / "once", [line])
    assert digest(tmp_path / "again") == digest(tmp_path / "once")
    for shard in (tmp_path / "once").glob("*.tfrecord"):
        assert shard.read_bytes() == (tmp_path / "again" / shard.name).read_bytes()


@pytest.mark.parametrize(("content", "code"), [(None, 3), (b"\0\1\2\3" * 100, 2)])
def test_a_list_that_is_missing_or_no_text_is_refused(band, tmp_path, capsys, content, code):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    flags = ["--input", str(band), "--output", str(tmp_path / "out"), "--exclude", str(tmp_path / "list")]
    assert main(flags) == code
    assert f"--exclude {tmp_path / 'list'}" in capsys.readouterr().err
