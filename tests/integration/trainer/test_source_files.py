"""Generation from a user's own recordings."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import CLIP_SAMPLES

from preprocessing.errors import BAD_DATA, USAGE
from trainer.__main__ import main
from trainer.config import MODES
from trainer.reporting.wav import read_comment

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings of one's own: in stereo, as MP3, and longer than the clips of the dataset."""
    folder = tmp_path_factory.mktemp("recordings")
    time_secs = np.arange(3 * 8_000) / 8_000
    tone = 0.4 * np.sin(2 * np.pi * 220 * time_secs)
    soundfile.write(folder / "stereo.wav", np.stack([tone, tone], axis=1)[: 2 * 8_000], 8_000)
    soundfile.write(folder / "a tone.mp3", tone[:12_000], 8_000)
    soundfile.write(folder / "long.flac", tone, 8_000)
    return [str(folder / name) for name in ("stereo.wav", "a tone.mp3", "long.flac")]


def test_generation_starts_from_recordings_of_any_format_and_length(wave, recordings, tmp_path):
    sources = [flag for path in recordings for flag in ("--from", path)]
    flags = ["--run", str(wave), *sources, "--genre", "rock", "--output", str(tmp_path)]
    assert main(["generate", *flags]) == 0
    (take,) = tmp_path.iterdir()
    entries = json.loads((take / "music.json").read_text())
    assert {entry["mode"] for entry in entries} == {*MODES} - {"interpolate"}  # which is between two
    assert {entry.get("from") for entry in entries if entry["mode"] != "prior"} == {
        "stereo.wav",
        "a tone.mp3",
        "long.flac",
    }
    secs = {
        mode: [soundfile.info(take / entry["file"]).duration for entry in entries if entry["mode"] == mode]
        for mode in MODES
    }
    for mode in ("variation", "reconstruct", "transfer"):
        assert secs[mode] == pytest.approx([2.0, 1.5, 3.0], abs=0.1)
    assert secs["continue"] == pytest.approx([3.024, 2.524, 4.024], abs=0.1)
    first, again = (soundfile.read(take / f"reconstruct/0{index}.wav")[0] for index in (0, 2))
    assert np.abs(first[:900] - again[:900]).max() < 0.5

    again = tmp_path / "again"
    assert main(["generate", "--like", str(take / "transfer/01.wav"), "--output", str(again)]) == 0
    (repeated,) = again.iterdir()
    for entry in entries:
        assert (take / entry["file"]).read_bytes() == (repeated / entry["file"]).read_bytes()


def test_a_file_is_continued_whole_and_a_test_clip_from_its_first_third(wave, recordings, tmp_path):
    (name, *_) = (clip["track_id"] for clip in json.loads((wave / "samples/clips.json").read_text()))
    sources = ["--from", recordings[0], "--from", name]
    assert (
        main(
            [
                "generate",
                "--run",
                str(wave),
                "--mode",
                "continue",
                *sources,
                "--output",
                str(tmp_path / "both"),
            ]
        )
        == 0
    )
    secs = [
        soundfile.info(path).duration for path in sorted((tmp_path / "both").glob("*/continue/[0-9]*.wav"))
    ]
    assert secs == pytest.approx([3.024, 1.024], abs=0.1)


def test_an_interpolation_is_between_two_recordings_as_long_as_the_shorter(
    wave, recordings, tmp_path, capsys
):
    flags = ["--run", str(wave), "--mode", "interpolate", "--output", str(tmp_path)]
    assert main(["generate", *flags, "--from", recordings[0], "--from", recordings[2]]) == 0
    lengths = [soundfile.info(path).duration for path in tmp_path.glob("*/interpolate/*.wav")]
    assert lengths == pytest.approx([2.0] * 5, abs=0.1)
    assert main(["generate", *flags, "--from", recordings[0]]) == USAGE
    assert "an interpolation needs two clips, and --from names 1" in capsys.readouterr().err


def test_a_recipe_with_many_sources_is_in_every_file(wave, recordings, tmp_path):
    sources = [flag for path in recordings * 8 for flag in ("--from", path)]
    flags = ["--run", str(wave), "--mode", "reconstruct", "--output", str(tmp_path)]
    assert main(["generate", *flags, *sources]) == 0
    (take,) = tmp_path.iterdir()
    recipe = json.loads((take / "recipe.json").read_text())
    comment = json.loads(read_comment(take / "reconstruct/23.wav"))
    assert comment.pop("clip")["file"] == "reconstruct/23.wav"
    assert comment == recipe and len(recipe["sources"]) == 24


def test_a_take_is_varied_in_mode_and_checkpoint(wave, recordings, tmp_path):
    flags = ["--output", str(tmp_path / "music")]
    main(["generate", "--run", str(wave), "--from", recordings[0], "--mode", "reconstruct", *flags])
    (take,) = (tmp_path / "music").iterdir()
    for given in (["--mode", "prior", "--count", "1"], ["--checkpoint", "newest"]):
        assert main(["generate", "--like", str(take), *given, *flags]) == 0


def test_a_model_of_one_length_uses_the_beginning_of_a_recording(reference, recordings, tmp_path):
    flags = ["--run", str(reference), "--mode", "reconstruct", "--output", str(tmp_path)]
    assert main(["generate", *flags, "--from", recordings[2]]) == 0
    (file,) = tmp_path.glob("*/reconstruct/*.wav")
    assert soundfile.info(file).frames == CLIP_SAMPLES


def test_a_test_clip_is_chosen_by_its_name(wave, tmp_path):
    name = json.loads((wave / "samples/clips.json").read_text())[1]["track_id"]
    flags = ["--run", str(wave), "--mode", "reconstruct", "--output", str(tmp_path), "--from", name]
    assert main(["generate", *flags]) == 0
    (music,) = tmp_path.glob("*/music.json")
    assert [entry["from"] for entry in json.loads(music.read_text())] == [name]


def test_a_take_is_not_repeated_from_a_file_that_has_changed(wave, recordings, tmp_path, capsys):
    own = tmp_path / "own.wav"
    shutil.copy(recordings[0], own)
    flags = ["--mode", "reconstruct", "--output", str(tmp_path / "music")]
    assert main(["generate", "--run", str(wave), "--from", str(own), *flags]) == 0
    (take,) = (tmp_path / "music").iterdir()
    soundfile.write(own, 0.5 * np.sin(np.arange(16_000) / 9), 8_000)
    assert main(["generate", "--like", str(take), "--output", str(tmp_path / "music")]) == BAD_DATA
    error = capsys.readouterr().err
    assert "a source clip of the take has changed since it was made" in error and "own.wav" in error


def test_recordings_that_cannot_be_used_are_refused_in_one_sentence(wave, recordings, tmp_path, capsys):
    short = tmp_path / "short.wav"
    soundfile.write(short, 0.5 * np.sin(np.arange(80)), 8_000)
    text = tmp_path / "notes.txt"
    text.write_text("no music")
    flags = ["--run", str(wave), "--output", str(tmp_path / "music"), "--mode", "variation"]
    for given, code, message in (
        (["--from", str(short)], USAGE, "short.wav is too short: it has 0.01 s, and the model needs"),
        (["--from", str(text)], BAD_DATA, "notes.txt is no usable recording"),
        (
            ["--from", str(tmp_path / "none.wav")],
            BAD_DATA,
            "none.wav is neither a file nor the name of a test",
        ),
        (["--from", recordings[0], "--genre", "ska"], USAGE, "unknown genre ska"),
        (["--genre", "ska"], USAGE, "unknown genre ska"),
        (["--mode", "continue", "--secs", "1e9"], USAGE, "--secs must be a number from 0 to 3600"),
    ):
        assert main(["generate", *flags, *given]) == code
        assert message in capsys.readouterr().err
    flags = ["--run", str(wave), "--output", str(tmp_path / "music"), "--mode", "prior"]
    assert main(["generate", *flags, "--from", recordings[0]]) == USAGE
    assert "--from has no effect in the mode prior" in capsys.readouterr().err
    assert not (tmp_path / "music").exists()
