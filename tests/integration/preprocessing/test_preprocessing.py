"""The whole job, on real files, through its command line."""

import json
import os
import shutil

import librosa
import numpy as np
import pytest
import soundfile
from support.tiny_corpus import CLIP_SAMPLES, GENRES, RATE_HZ, TINY, write_clip

from preprocessing.__main__ import main
from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.splits import (
    REFERENCE_TEST_NUMBERS,
    REFERENCE_TRAIN_NUMBERS,
    hash_splits,
    parse_track,
)
from preprocessing.features import fingerprint
from preprocessing.pipeline.plan import SourceFile
from preprocessing.storage import beam_files


def read(folder):
    """The manifest, and per split its records in order."""
    manifest = Manifest.from_json((folder / "dataset.json").read_bytes(), "dataset.json")
    records = {}
    for split in ("train", "validation", "test"):
        records[split] = []
        for shard in manifest.split_shards(split):
            with (folder / shard.name).open("rb") as stream:
                records[split] += [example.decode(payload) for payload in tfrecord.read_frames(stream)]
    return manifest, records


def quarantine(folder):
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def run(corpus, output, *flags):
    return main(["--input", str(corpus), "--output", str(output), *TINY, *flags])


def test_every_clip_becomes_a_record_of_its_split(corpus, dataset):
    manifest, records = read(dataset)
    assert manifest.genres == sorted(GENRES)
    assert {shard.name for shard in manifest.shards} == {path.name for path in dataset.glob("*.tfrecord")}
    everyone = [record for split in records.values() for record in split]
    assert len(everyone) == len({record.track_id for record in everyone}) == 24
    for split, members in records.items():
        assert len(members) == manifest.clip_count(split) > 0
        for record in members:
            assert hash_splits(parse_track(record.source_uri)) == (split,)
            expected, _ = librosa.load(record.source_uri, sr=RATE_HZ, duration=1.024)
            assert record.audio.shape == (CLIP_SAMPLES,)
            np.testing.assert_allclose(record.audio, expected[:CLIP_SAMPLES], atol=1e-6)
            assert (record.sample_rate_hz, record.valid_samples) == (RATE_HZ, CLIP_SAMPLES)
    assert not list((dataset / ".staging").glob("*"))
    loudness = [record.attributes.loudness_db for record in records["train"]]
    of = manifest.attributes["loudness_db"]
    assert (of.mean, of.std) == pytest.approx((np.mean(loudness), np.std(loudness)), rel=1e-4)
    assert (of.low, of.high) == pytest.approx((min(loudness), max(loudness)), rel=1e-4)
    assert "tempo_bpm" not in manifest.attributes  # clips of a second have none


def test_the_reference_split_reads_track_45_twice_and_warns(tmp_path, capsys):
    for number in {*REFERENCE_TRAIN_NUMBERS, *REFERENCE_TEST_NUMBERS, 1, 2}:
        write_clip(tmp_path / f"in/classical/classical.{number:05d}.wav", number)
    write_clip(tmp_path / "in/rock/rock.00000.wav", 0)
    assert run(tmp_path / "in", tmp_path / "out", "--split", "reference", "--genre", "classical") == 0
    _, records = read(tmp_path / "out")
    numbers = {
        split: sorted(parse_track(r.source_uri).number for r in rows) for split, rows in records.items()
    }
    assert numbers["train"] == sorted(REFERENCE_TRAIN_NUMBERS)
    assert numbers["test"] == sorted(REFERENCE_TEST_NUMBERS)
    assert {r.genre for r in records["train"]} == {"classical"}
    assert "warning: the reference's lists share track number 45" in capsys.readouterr().out


def test_bad_files_are_quarantined_and_the_others_kept(corpus, tmp_path, capsys):
    folder = tmp_path / "in" / "blues"
    shutil.copytree(corpus / "blues", folder)
    (folder / "blues.00090.wav").write_bytes(b"")
    (folder / "blues.00091.mp3").write_bytes(b"not audio at all" * 100)
    soundfile.write(folder / "blues.00092.wav", np.full(9_000, np.inf), 8_000, subtype="FLOAT")
    soundfile.write(folder / "blues.00093.wav", np.zeros(0), 8_000)
    write_clip(folder / "blues.00003.flac", 3)  # the same track as blues.00003.wav, and first by name
    write_clip(folder / "a song.wav", 55)
    write_clip(folder / "no ending.wav", 56)
    (folder / "no ending.wav").rename(folder / "no ending")
    (folder / "cover.jpg").write_bytes(b"ignored")
    write_clip(tmp_path / "in/lost.wav", 57)
    assert run(tmp_path / "in", tmp_path / "out", "--max-bad-fraction", "0.25") == 3
    assert not (tmp_path / "out/dataset.json").exists()
    said = capsys.readouterr().err
    assert "26% of the recordings are bad" in said
    assert (
        "duplicate 1, empty_file 1, no_class 1, no_samples 1, non_finite 1, not_audio 1, other_file 1" in said
    )
    listed = quarantine(tmp_path / "out")
    assert run(tmp_path / "in", tmp_path / "out", "--max-bad-fraction", "0.27") == 0
    assert quarantine(tmp_path / "out") == listed
    manifest, records = read(tmp_path / "out")
    reasons = {row["uri"].rsplit("/", 1)[1]: row["reason"] for row in quarantine(tmp_path / "out")}
    expected = {
        "blues.00090.wav": "empty_file",
        "blues.00091.mp3": "not_audio",
        "blues.00092.wav": "non_finite",
        "blues.00093.wav": "no_samples",
        "blues.00003.wav": "duplicate",
        "cover.jpg": "other_file",
        "lost.wav": "no_class",
    }
    assert {name: reasons.get(name) for name in expected} == expected
    assert sum(manifest.quarantined.values()) == len(reasons)
    assert sum(len(rows) for rows in records.values()) == 14


def test_duplicates_are_found_among_many_similar_recordings(tmp_path, monkeypatch):
    compared = []
    compare = fingerprint.is_same_recording
    monkeypatch.setattr(fingerprint, "is_same_recording", lambda *two: compared.append(1) or compare(*two))
    folder = tmp_path / "in/noise"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(60):
        soundfile.write(folder / f"noise.{number:05d}.wav", rng.normal(0, 0.1, 12_000), 8_000)
    for number in range(20):  # the same file again and again, as sample packs have it
        shutil.copy(folder / "noise.00007.wav", folder / f"z {number}.wav")
    soundfile.write(folder / "y.flac", 0.5 * soundfile.read(folder / "noise.00030.wav")[0], 8_000)
    assert run(tmp_path / "in", tmp_path / "out", "--max-bad-fraction", "0.5") == 0
    listed = {
        row["uri"].rsplit("/", 1)[1]: row["detail"].rsplit("/", 1)[1] for row in quarantine(tmp_path / "out")
    }
    assert listed == {"y.flac": "noise.00030.wav"} | {
        f"z {copy}.wav": "noise.00007.wav" for copy in range(20)
    }
    assert len(compared) <= 16 * 61


def test_an_identical_job_is_recognized_and_a_new_one_replaces_it(corpus, tmp_path, capsys):
    source, output = tmp_path / "in", tmp_path / "out"
    shutil.copytree(corpus, source)
    assert run(source, output, "--shards", "8") == 0
    first = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    left = output / ".staging/0123/train-00000-of-00006.tfrecord"  # of a job killed after its commit
    left.parent.mkdir(parents=True)
    left.write_bytes(b"cut")
    assert run(source, output, "--shards", "8") == 0
    assert "is up to date" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == first

    digest = read(output)[0].digest
    write_clip(source / "rock" / "rock.00050.wav", 50)
    assert run(source, output, "--shards", "2") == 0
    manifest, records = read(output)
    assert manifest.digest != digest
    assert sum(len(rows) for rows in records.values()) == 25
    # No shard of the earlier, wider dataset is left to be read by a glob.
    assert {path.name for path in output.glob("*.tfrecord")} == {shard.name for shard in manifest.shards}


def test_the_digest_does_not_depend_on_the_place_or_the_workers(corpus, dataset, tmp_path):
    elsewhere = tmp_path / "moved [1] (copy)"
    shutil.copytree(corpus, elsewhere)
    assert run(elsewhere, tmp_path / "out", "--shards", "3", "--direct_num_workers", "1") == 0
    here, there = read(dataset)[0], read(tmp_path / "out")[0]
    assert here.digest == there.digest
    assert here.inputs_fingerprint != there.inputs_fingerprint


def test_names_of_any_kind_are_accepted(tmp_path):
    names = ["new\nline", "sp ace 'and \"quote", "日本の音楽"]
    for index, genre in enumerate(names):
        write_clip(tmp_path / "clip.wav", index)  # libsndfile takes no such names; the file system does
        (tmp_path / "in" / genre).mkdir(parents=True)
        (tmp_path / "clip.wav").rename(tmp_path / "in" / genre / f"{genre}.0{index}.wav")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert read(tmp_path / "out")[0].genres == sorted(names)


def test_a_class_name_that_is_not_text_is_rejected_and_a_file_name_is_not(tmp_path):
    for number, path in enumerate((b"rock/M\xfasica.wav", b"M\xfasica/a.wav", b"rock/b.wav")):
        write_clip(tmp_path / "clip.wav", number)
        target = tmp_path / "in" / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clip.wav").rename(target)
    assert run(tmp_path / "in", tmp_path / "out", "--max-bad-fraction", "0.5") == 0
    manifest, _ = read(tmp_path / "out")
    assert (manifest.genres, manifest.quarantined) == (["rock"], {"bad_class_name": 1})


def test_a_clip_survives_its_line():
    clip = SourceFile("a\nb/\udce9.1.wav", "", 0, 9, "x.1", "x", "train-00000-of-00001.tfrecord")
    assert "\n" not in clip.to_json()
    assert SourceFile.from_json(clip.to_json()) == clip


def test_an_unreadable_input_leaves_the_dataset_intact_and_is_retried(corpus, tmp_path, monkeypatch, capsys):
    assert run(corpus, tmp_path / "out") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tfrecord")}
    open_file = beam_files.open_stream

    def ill(broken):
        def open_stream(uri):
            if uri.endswith(".wav") and broken in uri:
                raise OSError("the disk is ill")
            return open_file(uri)

        return open_stream

    monkeypatch.setattr(beam_files, "open_stream", ill(""))
    assert run(corpus, tmp_path / "out", "--shards", "2") == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tfrecord")} == before
    assert (tmp_path / "out/dataset.json").exists()
    monkeypatch.setattr(beam_files, "open_stream", ill("/rock/"))
    assert run(corpus, tmp_path / "out", "--shards", "2", "--max-bad-fraction", "0.5") == 0
    assert read(tmp_path / "out")[0].quarantined == {"unreadable": 12}
    monkeypatch.setattr(beam_files, "open_stream", open_file)
    assert run(corpus, tmp_path / "out", "--shards", "2") == 0
    assert read(tmp_path / "out")[0].quarantined == {}
    assert not list((tmp_path / "out/.staging").glob("*"))


@pytest.mark.parametrize("verbose", [[], ["--verbose"]])
def test_input_without_a_readable_file_leaves_no_dataset(tmp_path, capsys, verbose):
    (tmp_path / "in/rock").mkdir(parents=True)
    (tmp_path / "in/rock/rock.1.wav").write_bytes(b"no")
    assert run(tmp_path / "in", tmp_path / "out", *verbose) == 3
    error = capsys.readouterr().err
    assert "no recording could be read (not_audio 1)" in error
    assert ("Traceback" in error) == bool(verbose)
    assert not (tmp_path / "out/dataset.json").exists()
    assert quarantine(tmp_path / "out")[0]["reason"] == "not_audio"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--input", "/nowhere/at/all"], 3, "does not exist"),
        (["--input", "/nowhere/*.wav"], 3, "no file matches"),
        (["--input", "~/music"], 3, "the shell did not expand"),
        (["--input", "{empty}"], 3, "is an empty folder"),
        (["--input", "s3://bucket/music"], 2, "s3 is not supported"),
        (["--input", "{corpus}", "--genre", "polka"], 3, "no clip of it; it has blues, rock"),
        (["--input", "{corpus}", "--outptu", "x"], 2, "unknown argument --outptu"),
        (["--input", "{corpus}", "--sample-rate-hz", "0"], 2, "--sample-rate-hz must be from"),
        (["--input", "{corpus}", "--clip-secs", "-1", "--clip-samples", "9"], 2, "--clip-secs must be"),
        (["--input", "{corpus}", "--clip-secs", "nan"], 2, "--clip-secs must be"),
        (["--input", "{corpus}", "--clip-samples", "0"], 2, "--clip-samples must be"),
        (["--input", "{corpus}", "--genre", "rock", "--genre", "polka"], 3, "--genre polka"),
        (["--input", "{corpus}", "--output", ""], 2, "must not be empty"),
        (["--input", "{corpus}", "--shards", "0"], 2, "--shards must be"),
        (["--input", "{corpus}", "--hop-secs", "0"], 2, "--hop-secs must be"),
        (["--input", "{corpus}", "--min-secs", "2"], 2, "must be in ascending order"),
        (["--input", "{corpus}", "--max-bad-fraction", "2"], 2, "--max-bad-fraction must be"),
        (["--input", "{corpus}/rock/rock.00001.wav"], 3, "neither an archive"),
        (["--input", "{corpus}", "--runner", "NoSuchRunner"], 2, "NoSuchRunner"),
        (["--input", "{corpus}", "--runner", "DaskRunner"], 2, "--runner DaskRunner is not supported"),
        (["--input", "{corpus}", "--output", "/proc/nothing"], 4, "/proc/nothing"),
    ],
)
def test_an_error_is_one_sentence_with_an_exit_code(corpus, tmp_path, capsys, flags, code, said):
    tiny = [] if {"--clip-secs", "--clip-samples", "--sample-rate-hz"} & {*flags} else TINY
    (tmp_path / "empty").mkdir()
    given = [*tiny, *(flag.format(corpus=corpus, empty=tmp_path / "empty") for flag in flags)]
    output = [] if "--output" in given else ["--output", str(tmp_path / "out")]
    assert main([*given, *output]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("python -m preprocessing: error: ")
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "out/dataset.json").exists()
