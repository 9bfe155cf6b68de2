"""A dataset read back and held against its manifest: what is good passes, and every fault has its line."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import re
from collections import Counter
from html import escape
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preprocessing import audio, example, files, records
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.inspection import SHOWN_FAULTS, inspect
from preprocessing.inspection_page import SHOWN_FILES
from preprocessing.manifest import NAME, QUARANTINE_NAME, Manifest, Shard, shard_name
from preprocessing.quarantine import Rejected

RATE_HZ, CLIP_SAMPLES, VALID_SAMPLES = 1_000, 2_048, 2_000
GENRES = ("jazz", "rock")
TRAIN = [f"{genre}.{number:05d}" for genre in GENRES for number in range(4)]
TEST = [f"{genre}.{number:05d}" for genre in GENRES for number in (8, 9)]
TRAIN_0, TRAIN_1, TEST_0 = shard_name("train", 0, 2), shard_name("train", 1, 2), shard_name("test", 0, 1)
HOSTILE = '<script>alert("x")</script>&.wav'


def make_record(track_id: str) -> example.Record:
    """A tone of its own, half as loud in rock, with some padding."""
    genre, number = track_id.split(".")
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    time_secs = np.arange(VALID_SAMPLES) / RATE_HZ
    level = (0.5 if genre == "jazz" else 0.25) / (1 + int(number[:5]))
    clip[:VALID_SAMPLES] = level * np.sin(2 * np.pi * (50 + 20 * int(number[:5])) * time_secs)
    attributes = example.Attributes(-10.0 - int(number[:5]), 200.3, 120.0 if genre == "jazz" else math.nan)
    uri = f"/corpus/{genre}/{track_id}.wav"
    return example.Record(clip, track_id, genre, RATE_HZ, VALID_SAMPLES, "ab" * 32, uri, attributes)


def make_entry(record: example.Record, split: str, shard: str) -> records.Entry:
    measured = {name: None if math.isnan(of) else of for name, of in record.attributes._asdict().items()}
    return records.Entry(
        track_id=record.track_id,
        recording_id=record.track_id,
        genre=record.genre,
        split=split,
        shard=shard,
        start_secs=0.0,
        valid_samples=record.valid_samples,
        source_uri=record.source_uri,
        source_sha256=record.source_sha256,
        fingerprint="",
        **measured,
    )


class Dataset:
    """A dataset to be written, whole or with faults: two training shards and one to test on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = {
            TRAIN_0: [make_record(track_id) for track_id in TRAIN[::2]],
            TRAIN_1: [make_record(track_id) for track_id in TRAIN[1::2]],
            TEST_0: [make_record(track_id) for track_id in TEST],
        }
        self.options = {"split": "hash"}
        self.rejected = []
        self.list_records()

    def list_records(self) -> None:
        """Makes the lines that belong to the records."""
        listed = [(record, name) for name, of in self.shards.items() for record in of]
        self.entries = [make_entry(record, name.split("-")[0], name) for record, name in listed]

    def change(self, name: str, place: int, **changes: object) -> None:
        """Makes one record another, and leaves its line as it was."""
        self.shards[name][place] = self.shards[name][place]._replace(**changes)

    def change_entry(self, place: int, **changes: object) -> None:
        """Makes one line another, and leaves its record as it was."""
        self.entries[place] = self.entries[place]._replace(**changes)

    def write(self, **changes: object) -> str:
        """Writes all of it, with `changes` to its manifest, and returns its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shards, counts = [], {split: Counter() for split in ("train", "validation", "test")}
        for name, of in self.shards.items():
            content = b"".join(example.frame(example.encode(record)) for record in of)
            (self.folder / name).write_bytes(content)
            split = name.split("-")[0]
            sha256 = hashlib.sha256(content).hexdigest()
            shards.append(Shard(name, split, len(of), len(content), sha256, name, name))
            counts[split].update(record.genre for record in of)
        lines = "".join(f"{entry.to_json()}\n" for entry in sorted(self.entries)).encode()
        (self.folder / records.NAME).write_bytes(lines)
        rejected = "".join(f"{one.to_json()}\n" for one in self.rejected)
        (self.folder / QUARANTINE_NAME).write_text(rejected)
        manifest = Manifest(
            sample_rate_hz=RATE_HZ,
            clip_secs=CLIP_SAMPLES / RATE_HZ,
            clip_samples=CLIP_SAMPLES,
            options=self.options,
            genres=list(GENRES),
            shards=shards,
            counts={split: dict(genres) for split, genres in counts.items()},
            quarantined=dict(Counter(one.reason for one in self.rejected)),
            attributes={},
            usual=[],
            records_sha256=hashlib.sha256(lines).hexdigest(),
            inputs_fingerprint="",
        ).with_digest()
        (self.folder / NAME).write_bytes(dataclasses.replace(manifest, **changes).to_json())
        return str(self.folder)


@pytest.fixture
def made(tmp_path):
    return Dataset(tmp_path / "music")


@pytest.fixture
def faults(capsys):
    """What `inspect` prints of a damaged dataset, a line a fault."""

    def of(uri):
        with pytest.raises(CommandError, match=r"is damaged, faults found: \d+.*; delete it") as caught:
            inspect(uri)
        assert caught.value.exit_code == BAD_DATA
        return capsys.readouterr().out.splitlines()

    return of


def test_a_good_dataset_passes_with_its_figures(made):
    made.rejected = [
        Rejected("/corpus/jazz/a.wav", "not_audio", "no"),
        Rejected("/corpus/jazz/b.wav", "duplicate", "the same recording as /corpus/jazz/jazz.00000.wav"),
    ]
    lines = inspect(made.write()).splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert cells["jazz"] == ["4", "0", "2", "0:00:12", "-13.8", "200.3", "120.0"]
    assert cells["rock"] == ["4", "0", "2", "0:00:12", "-13.8", "200.3", "-"]
    assert cells["all"][:4] == ["8", "0", "4", "0:00:24"]
    assert cells["shards"] == ["2", "0", "1"]
    assert cells["MB"] == ["0.1", "0.0", "0.0"]
    assert "quarantined: 1 (not_audio 1)" in lines
    assert "left alone: 1 (duplicate 1)" in lines
    assert re.fullmatch(rf"{made.folder}: digest [0-9a-f]{{12}}", lines[-2])
    assert lines[-1] == "verified: 3 shards, 12 records, every checksum good"


def with_sample(place, value):
    clip = make_record(TRAIN[0]).audio
    clip[place] = value
    return clip


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"audio": with_sample(3, np.nan)}, "NaN or infinite samples"),
        ({"audio": with_sample(3, -1.5)}, "samples beyond [-1, 1], up to 1.5"),
        ({"audio": with_sample(-1, 0.1)}, "the padding, from sample 2,000 on, is not zero"),
        ({"audio": np.zeros(100, np.float32)}, "100 samples instead of 2,048"),
        ({"sample_rate_hz": 500}, "sample_rate_hz is 500, not 1000"),
    ],
)
def test_a_record_that_breaks_a_promise_is_named(made, faults, changes, fault):
    made.change(TRAIN_0, 0, **changes)
    assert faults(made.write()) == [f"{TRAIN_0}: record 1 (jazz.00000): {fault}"]


@pytest.mark.parametrize("valid_samples", [0, -1, CLIP_SAMPLES + 1])
def test_valid_samples_must_be_some_of_the_clip(made, faults, valid_samples):
    made.change(TRAIN_1, 3, valid_samples=valid_samples)
    made.list_records()
    what = f"valid_samples is {valid_samples:,}, not 1 to 2,048"
    assert faults(made.write()) == [f"{TRAIN_1}: record 4 (rock.00003): {what}"]


@pytest.mark.parametrize(
    ("changes", "here", "listed"),
    [
        ({"genre": "rock"}, "'jazz'", "'rock'"),
        ({"valid_samples": 7}, "2000", "7"),
        ({"tempo_bpm": 119.0}, "120.0", "119.0"),
        ({"tempo_bpm": None}, "120.0", "None"),
        ({"source_sha256": "cd"}, repr("ab" * 32), "'cd'"),
        ({"source_uri": "/x"}, "'/corpus/jazz/jazz.00000.wav'", "'/x'"),
        ({"shard": TRAIN_1}, repr(TRAIN_0), repr(TRAIN_1)),
    ],
)
def test_a_line_that_is_not_its_record_is_named(made, faults, changes, here, listed):
    made.change_entry(0, **changes)
    (name,) = changes
    fault = f"{TRAIN_0}: record 1 (jazz.00000): {name} is {here}, and {listed} in records.jsonl"
    assert faults(made.write()) == [fault]


def test_an_unknown_number_is_a_number_too(made, faults):
    made.change_entry(2, tempo_bpm=120.0)
    assert faults(made.write()) == [
        f"{TRAIN_0}: record 3 (rock.00000): tempo_bpm is None, and 120.0 in records.jsonl"
    ]


def test_a_flipped_bit_is_found_where_it_is(made, faults):
    shard = Path(made.write()) / TRAIN_0
    content = bytearray(shard.read_bytes())
    size = len(content) // 4
    content[size + size // 2] ^= 1
    shard.write_bytes(content)
    damage, sha256 = faults(str(made.folder))
    assert damage == (
        f"{TRAIN_0}: record 2: a damaged record at byte {size}; the rest of the shard is not read"
    )
    assert sha256 == f"{TRAIN_0}: its SHA-256 is not the one in dataset.json"


def test_a_shard_that_is_cut_is_found(made, faults):
    shard = Path(made.write()) / TEST_0
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    lines = faults(str(made.folder))
    assert lines[0].startswith(f"{TEST_0}: record 4: a damaged record at byte")
    assert lines[1] == f"{TEST_0}: {size - 10:,} bytes instead of {size:,}"
    assert len(lines) == 3


def test_a_shard_that_lacks_its_last_record_is_found(made, faults):
    shard = Path(made.write()) / TEST_0
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[: size // 4 * 3])
    assert faults(str(made.folder)) == [
        f"{TEST_0}: 3 records instead of 4",
        f"{TEST_0}: {size // 4 * 3:,} bytes instead of {size:,}",
        f"{TEST_0}: its SHA-256 is not the one in dataset.json",
        "dataset.json: it counts 2 clips of rock in test, the shards 1",
        f"records.jsonl: rock.00009 is in no shard, it should be in {TEST_0}",
    ]


def test_a_missing_shard_is_one_fault(made, faults):
    (Path(made.write()) / TRAIN_1).unlink()
    assert faults(str(made.folder)) == [f"{TRAIN_1}: it is missing"]


def test_a_wrong_digest_and_wrong_counts_are_found(made, faults):
    counts = {"train": {"jazz": 5, "rock": 4}, "validation": {}, "test": {"jazz": 2, "rock": 2}}
    assert faults(made.write(counts=counts, digest="ab", genres=["jazz"])) == [
        "dataset.json: it counts 5 clips of jazz in train, the shards 4",
        "dataset.json: its genres are ['jazz'], those of its records ['jazz', 'rock']",
        "dataset.json: its digest is not that of its options and shards",
    ]


def test_a_record_twice_is_found(made, faults):
    made.shards[TRAIN_1].append(made.shards[TRAIN_0][0])
    made.list_records()
    assert faults(made.write()) == [
        "records.jsonl: line 2: jazz.00000 has a line already",
        f"{TRAIN_0}: record 1 (jazz.00000): shard is '{TRAIN_0}', and '{TRAIN_1}' in records.jsonl",
        f"{TRAIN_1}: record 5 (jazz.00000): its track_id is also that of a record in {TRAIN_0}",
    ]


def test_a_recording_on_two_sides_is_found(made, faults):
    made.change_entry(0, recording_id="jazz.00008")
    assert faults(made.write()) == ["records.jsonl: recording jazz.00008 is in test and train"]


def test_the_lists_of_the_seed_may_share_a_track(made, faults):
    made.shards[TEST_0].append(made.shards[TRAIN_0][0])
    made.list_records()
    made.options = {"split": "seed"}
    assert "13 records" in inspect(made.write())
    made.options = {"split": "hash"}
    assert len(faults(made.write())) >= 3


def test_what_is_no_example_is_named(made, faults):
    folder = Path(made.write())
    content = example.frame(b"\xff\xff") + example.frame(b"")
    (folder / TEST_0).write_bytes(content)
    lines = faults(str(folder))
    assert [line.split(" (")[0] for line in lines[:2]] == [
        f"{TEST_0}: record {number}: it cannot be decoded" for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "its SHA-256 is not the one in dataset.json"),
        (b"{}\n", "line 1 is damaged"),
        (b"no\n", "line 1 is damaged"),
        (None, "it is missing"),
    ],
)
@pytest.mark.parametrize("name", [records.NAME, QUARANTINE_NAME])
def test_damaged_lists_are_found(made, faults, name, content, fault):
    path = Path(made.write()) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    if (name, content) == (QUARANTINE_NAME, b""):
        assert inspect(str(made.folder))
        return
    assert any(line.startswith(f"{name}: {fault}") for line in faults(str(made.folder)))


def test_a_value_of_another_type_is_damage(made, faults):
    made.change_entry(0, track_id=5)
    made.change_entry(1, loudness_db="loud")
    made.entries.sort(key=lambda entry: str(entry.track_id))
    text = "".join(f"{entry.to_json()}\n" for entry in made.entries).encode()
    made.entries = []
    folder = Path(made.write(records_sha256=hashlib.sha256(text).hexdigest()))
    (folder / records.NAME).write_bytes(text)
    lines = faults(str(folder))
    assert "records.jsonl: line 1 is damaged (its track_id is 5)" in lines
    assert any("its loudness_db is 'loud'" in line for line in lines)


def test_all_faults_are_told_up_to_some_tens(made, faults, capsys):
    (Path(made.write()) / TRAIN_0).unlink()
    (made.folder / TEST_0).unlink()
    (made.folder / QUARANTINE_NAME).unlink()
    assert len(faults(str(made.folder))) == 3
    for name, of in made.shards.items():
        for place in range(len(of)):
            made.change(name, place, sample_rate_hz=1, valid_samples=0, genre="pop", source_uri="/x")
    with pytest.raises(CommandError, match=r"faults found: \d+, \d+ of them not shown"):
        inspect(made.write())
    assert len(capsys.readouterr().out.splitlines()) == SHOWN_FAULTS


def test_a_fault_is_one_line_whatever_a_track_is_called(made, faults):
    made.change(TRAIN_0, 0, track_id="jazz\n.0")
    assert faults(made.write()) == [
        f"{TRAIN_0}: record 1 (jazz .0): records.jsonl has no line of it",
        f"records.jsonl: jazz.00000 is in no shard, it should be in {TRAIN_0}",
    ]


def test_an_empty_dataset_is_none(made, faults):
    made.shards, made.entries = {}, []
    assert faults(made.write(genres=[])) == ["dataset.json: it has no record"]


@pytest.mark.parametrize("content", [None, b"{"])
def test_without_a_manifest_there_is_no_dataset(tmp_path, content):
    if content is not None:
        (tmp_path / NAME).write_bytes(content)
    with pytest.raises(CommandError, match=r"dataset.json .*preprocess") as caught:
        inspect(str(tmp_path))
    assert caught.value.exit_code == BAD_DATA


def test_the_latest_version_is_followed(made, faults, tmp_path):
    made.write()
    digest = json.loads((made.folder / NAME).read_bytes())["digest"]
    root = tmp_path / "versions"
    root.mkdir()
    (root / "LATEST").write_text(f"{digest}\n")
    made.folder.rename(root / digest)
    assert f"{root}/{digest}: digest {digest[:12]}" in inspect(str(root))
    (root / "LATEST").write_text("ab" * 32)
    (root / digest).rename(root / ("ab" * 32))
    assert faults(str(root)) == [f"dataset.json: its digest is {digest}, not the one that LATEST names"]


def test_a_bucket_is_read_and_its_page_written(made, storage_server):
    made.write()
    for path in made.folder.iterdir():
        files.write(f"{storage_server}/inspected/{path.name}", path.read_bytes())
    page_uri = f"{storage_server}/pages/music.html"
    assert "every checksum good" in inspect(f"{storage_server}/inspected", page_uri)
    assert files.read(page_uri).startswith(b"<!doctype html>")


@pytest.fixture
def html(made, tmp_path):
    """The text of the page about a dataset that left some files out."""
    made.rejected = [
        *(
            Rejected(f"/corpus/jazz/{number}.wav", "not_audio", "no sound")
            for number in range(SHOWN_FILES + 2)
        ),
        Rejected(f"/corpus/rock/{HOSTILE}", "a_new_reason", f"<b>{HOSTILE}</b>"),
        Rejected("/corpus/rock/b.wav", "duplicate", "the same recording as /corpus/rock/rock.00001.wav"),
        Rejected("/corpus/cover.jpg", "other_file", "no sound"),
    ]
    path = tmp_path / "pages/music.html"
    assert str(path) in inspect(made.write(), str(path)).splitlines()[-1]
    return path.read_text("utf-8")


def test_the_page_plays_one_clip_of_each_genre(made, html):
    sounds = re.findall(r'<audio [^>]*src="data:audio/mpeg;base64,([^"]+)"', html)
    assert len(sounds) == html.count("<audio") == len(GENRES)
    for sound in sounds:
        decoded, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert len(decoded) / rate_hz == pytest.approx(VALID_SAMPLES / RATE_HZ, abs=0.2)
    heard = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert heard == ["jazz.00001", "rock.00001"]  # of -10 to -13 dB, in the training shards
    assert html.count('src="data:image/png') == len(GENRES)


def test_the_page_tells_what_is_there_and_what_was_left_out(html):
    for text in ("music: 12 clips", "jazz", "rock", "0:00:24", "2.05 s at 1,000 Hz", "<dd>10</dd>"):
        assert text in html
    for text in (audio.REASONS["not_audio"], "<small>7</small>", "and 2 more", "a_new_reason"):
        assert text in html
    assert "<li><b>rock/b.wav</b> the same recording as rock/rock.00001.wav</li>" in html
    assert html.index("not_audio") < html.index("<h3>duplicate") < html.index("<h3>other_file")
    assert html.count('<svg class="ridges') == 3


def test_the_page_loads_nothing_and_escapes_names(html):
    assert HOSTILE not in html
    assert f"rock/{escape(HOSTILE)}" in html
    assert html.count("<script>") == 1
    links = re.findall(r'(?:src|href|data)="([^"]*)"', html)
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in html
    assert "http" not in re.sub(r'src="[^"]*"', "", html).replace("http-equiv", "")


def test_a_damaged_dataset_has_no_page(made, tmp_path):
    (Path(made.write()) / TRAIN_0).unlink()
    with pytest.raises(CommandError, match="damaged"):
        inspect(str(made.folder), str(tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()
