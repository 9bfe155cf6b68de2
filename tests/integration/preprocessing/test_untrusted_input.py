"""A folder of strangers' files: every good one becomes a record, every bad one a line with its reason."""

import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import TINY

from preprocessing.__main__ import main
from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.quarantine import REASONS

FORMATS = [
    ("wav", "WAV", "PCM_U8", 8_000, 1),
    ("wav", "WAV", "PCM_16", 11_025, 2),
    ("wav", "WAV", "PCM_24", 44_100, 6),
    ("wav", "WAV", "PCM_32", 192_000, 1),
    ("wav", "WAV", "FLOAT", 48_000, 2),
    ("wav", "WAV", "IMA_ADPCM", 22_050, 1),
    ("wav", "WAV", "MS_ADPCM", 22_050, 2),
    ("au", "AU", "PCM_16", 22_050, 1),
    ("au", "AU", "ULAW", 8_000, 1),
    ("aif", "AIFF", "PCM_24", 96_000, 2),
    ("flac", "FLAC", "PCM_16", 44_100, 2),
    ("ogg", "OGG", "VORBIS", 32_000, 1),
    ("opus", "OGG", "OPUS", 48_000, 2),
    ("mp3", "MP3", "MPEG_LAYER_III", 44_100, 2),
]
NAMES = ['it\'s "quoted".wav', "new\nline.wav", "日本の歌.flac", "no ending", "wrong.ending.mp3", " .wav"]


def tones(number, rate_hz, channels):
    """1.5 s that differ from number to number."""
    rng = np.random.default_rng(number)
    time_secs = np.arange(round(1.5 * rate_hz)) / rate_hz
    partials = [np.sin(2 * np.pi * hz * time_secs + phase) for hz, phase in rng.uniform(60, 400, (3, 2))]
    return np.repeat(0.25 * np.sum(partials, axis=0)[:, np.newaxis], channels, axis=1)


def wav_header(data_bytes, channels=1, rate_hz=8_000):
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + data_bytes & 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + (b"data" + struct.pack("<I", data_bytes))
    )


def write_good(folder):
    """20 files; returns their names."""
    made = []
    for number, (ending, kind, subtype, rate_hz, channels) in enumerate(FORMATS):
        path = folder / f"{number:02d}.{ending}"
        soundfile.write(path, tones(number, rate_hz, channels), rate_hz, format=kind, subtype=subtype)
        made.append(path.name)
    for number, name in enumerate(NAMES):
        soundfile.write(folder / "made.wav", tones(100 + number, 16_000, 1), 16_000)
        (folder / "made.wav").rename(folder / name)  # libsndfile does not open every name
        made.append(name)
    return made


def write_bad(folder, good):
    """name -> reason"""
    noise = np.random.default_rng(0).normal(0, 0.1, 40_000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"Dear diary, " * 100)
    (folder / "film.mp3").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(200))
    (folder / "score.mp3").write_bytes(b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk" + bytes(100))
    (folder / "header.wav").write_bytes(wav_header(0))
    (folder / "cut.wav").write_bytes(wav_header(80_000) + tones(7, 8_000, 1).tobytes()[:3_000])
    (folder / "mute.wav").write_bytes(wav_header(16_000, channels=0) + bytes(16_000))
    (folder / "absurd.wav").write_bytes(wav_header(16_000, rate_hz=7) + bytes(16_000))
    soundfile.write(folder / "huge.wav", 1e12 * noise, 8_000, subtype="FLOAT")
    soundfile.write(folder / "endless.flac", np.zeros(8_000 * 90), 8_000)  # 90 s in some kilobytes
    soundfile.write(folder / "nan.wav", np.where(noise > 0.3, np.nan, noise), 16_000, subtype="FLOAT")
    soundfile.write(folder / "silence.wav", np.zeros(40_000), 16_000)
    soundfile.write(folder / "short.wav", noise[:800], 16_000)
    (folder / "broken.wav").symlink_to("nowhere.wav")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.wav")
    soundfile.write(folder / "zz again.flac", *soundfile.read(folder / good[1]))
    (folder / "notes.txt").write_text("not music")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("../escaped.wav", b"x")
    soundfile.write(folder.parent / "homeless.wav", noise, 16_000)
    (folder / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\0 nothing that unpacks")
    (folder / "page.zip").write_text("<html>404</html>")
    (folder / "more.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    (folder / ".trash").mkdir()
    return {
        "empty.wav": "empty_file",
        "text.wav": "not_audio",
        "film.mp3": "corrupt",
        "score.mp3": "unsupported_codec",
        "header.wav": "no_samples",
        "cut.wav": "truncated",
        "mute.wav": "zero_channels",
        "absurd.wav": "absurd_rate",
        "huge.wav": "unknown_scale",
        "endless.flac": "too_long",
        "nan.wav": "non_finite",
        "silence.wav": "silent",
        "short.wav": "too_short",
        "broken.wav": "broken_link",
        "round": "looping_link",
        "pipe.wav": "not_a_file",
        "zz again.flac": "duplicate",
        "notes.txt": "other_file",
        "more.zip!/../escaped.wav": "unsafe_path",
        "homeless.wav": "no_class",
        "cut.tar.gz": "corrupt_archive",
        "page.zip": "not_archive",
        "more.rar": "unsupported_archive",
        ".trash": "hidden",
    }


@pytest.fixture
def strangers(tmp_path):
    folder = tmp_path / "in/found music"
    folder.mkdir(parents=True)
    good = write_good(folder)
    return folder, good, write_bad(folder, good)


def test_every_good_file_becomes_a_record_and_every_bad_one_a_line(strangers, tmp_path, capsys):
    folder, good, bad = strangers
    job = ["--input", str(folder.parent), "--output", str(tmp_path / "out"), *TINY, "--max-secs", "60"]
    assert main(job) == 3
    said = capsys.readouterr().err
    assert "of the recordings are bad, and --max-bad-fraction allows 10%" in said
    assert all(f"{reason} 1" in said for reason in bad.values())
    assert not (tmp_path / "out/dataset.json").exists()

    assert main([*job, "--max-bad-fraction", "0.6"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    found = {line["uri"].removeprefix(f"{folder}/").removeprefix(f"{folder.parent}/"): line for line in lines}
    assert {name: line["reason"] for name, line in found.items()} == bad
    assert set(bad.values()) <= set(REASONS)
    assert found["zz again.flac"]["detail"] == f"the same recording as {folder / good[1]}"
    manifest = Manifest.from_json((tmp_path / "out/dataset.json").read_bytes(), "")
    records = []
    for shard in manifest.shards:
        with (tmp_path / "out" / shard.name).open("rb") as stream:
            records += [example.decode(payload) for payload in tfrecord.read_frames(stream)]
    assert sorted(record.source_uri for record in records) == sorted(str(folder / name) for name in good)
    assert {record.genre for record in records} == {"found music"}
    assert main(["inspect", str(tmp_path / "out"), "--html", str(tmp_path / "page.html")]) == 0


def test_all_clips_of_a_long_recording_are_in_one_split(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / f"in/talk/talk.{number:05d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 4_500), 1_000)
    soundfile.write(tmp_path / "in/talk/again.wav", *soundfile.read(path))
    path.write_bytes(path.read_bytes() + path.read_bytes()[:60] + bytes(500))  # joined with a broken one
    broken = rng.normal(0, 0.1, 4_500)
    broken[3_500] = np.nan  # in its last clip: those before are void
    soundfile.write(tmp_path / "in/talk/broken.wav", broken, 1_000, subtype="FLOAT")
    job = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *TINY, "--hop-secs", "1.024"]
    assert main([*job, "--max-bad-fraction", "0.2"]) == 0
    entries = [json.loads(line) for line in (tmp_path / "out/records.jsonl").read_text().splitlines()]
    assert len(entries) == 9 * 4  # and 0.4 s, which are less than --min-secs
    sides = {}
    for entry in entries:
        sides.setdefault(entry["recording_id"], set()).add(entry["split"])
        assert entry["track_id"] == f"{entry['recording_id']}@{entry['start_secs']:g}"
    assert len(sides) == 9
    assert all(len(splits) == 1 for splits in sides.values())
    lines = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert sorted(line["reason"] for line in lines) == ["duplicate", "non_finite", "partly_read"]
    assert main(["inspect", str(tmp_path / "out")]) == 0


def test_the_documentation_lists_every_quarantine_reason():
    page = (Path(__file__).parents[3] / "docs/dataset.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    rows = [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS.items()]
    assert [line for line in listed if line in rows] == rows
