import json

import numpy as np
import pytest
import soundfile
from conftest import CLIP_SAMPLES, GENRES, RATE_HZ

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer.__main__ import main
from trainer.generate import load
from trainer.train import train_and_evaluate


def trained(dataset, folder, given):
    train_and_evaluate(str(dataset), str(folder), {**given, "epochs": 1, "sample_clips": 2}, 1, folder / "c")
    return folder


@pytest.fixture(scope="module")
def wave(dataset, tmp_path_factory):
    given = {"preset": "wave", "channels": (8, 8), "strides": (4, 4), "crop_samples": 256}
    return trained(dataset, tmp_path_factory.mktemp("wave"), given)


@pytest.fixture(scope="module")
def seed(dataset, tmp_path_factory):
    return trained(dataset, tmp_path_factory.mktemp("seed"), {"preset": "seed"})


def test_the_same_seed_gives_the_same_music_and_another_another(wave, seed):
    for run in (wave, seed):
        music, again = load(run), load(run)
        clips = music.sample(count=3, seed=5)
        assert clips.shape == (3, CLIP_SAMPLES)
        assert clips.dtype == np.float32
        assert np.abs(clips).max() <= 1
        np.testing.assert_array_equal(again.sample(count=3, seed=5), clips)
        assert not np.array_equal(music.sample(count=3, seed=6), clips)
        np.testing.assert_allclose(music.sample(count=20, seed=5)[:3], clips, atol=1e-5)
        assert music.sample(count=20).shape == (20, CLIP_SAMPLES)


def test_variations_depart_from_the_reconstruction_by_the_amount(wave):
    music = load(wave)
    clips = np.random.default_rng(0).uniform(-0.5, 0.5, (3, CLIP_SAMPLES)).astype(np.float32)
    still = music.reconstruct(clips)
    np.testing.assert_allclose(music.vary(clips, amount=0.0), still, atol=1e-6)
    distances = [np.abs(music.vary(clips, amount) - still).mean() for amount in (0.1, 0.5, 2.0)]
    assert 0 < distances[0] < distances[1] < distances[2]
    with pytest.raises(CommandError, match="works on clips"):
        music.vary(clips[:, :100])


def test_the_seed_is_heard_as_its_authors_hear_it(seed):
    clips = load(seed).sample(count=2)
    assert 0 <= clips.min() <= clips.max() <= 1  # the sigmoid of the logits


def test_genres(wave, seed):
    music = load(wave)
    assert music.genres == GENRES
    one, other = (music.sample(1, genre=genre) for genre in GENRES)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(music.sample(2, genre=list(GENRES))[0], music.sample(2, genre=GENRES[0])[0])
    with pytest.raises(CommandError, match="knows the genres blues, rock, not polka"):
        music.sample(1, genre="polka")
    with pytest.raises(CommandError, match="not trained on genres"):
        load(seed).sample(1, genre="rock")


def test_the_command_writes_sound_pictures_and_a_list(wave, dataset, tmp_path):
    flags = ["generate", "--run", str(wave), "--output", str(tmp_path / "music"), "--count", "3"]
    assert main([*flags, "--data", str(dataset), "--output-rate-hz", "8000", "--amount", "0.3"]) == 0
    clips = json.loads((tmp_path / "music/music.json").read_text())
    assert [clip["file"] for clip in clips] == [
        f"{k}-0{i}.wav" for k in ("new", "variation") for i in range(3)
    ]
    assert [clip["genre"] for clip in clips[:3]] == ["blues", "rock", "blues"]
    assert all(clip["varies"].startswith(clip["genre"]) for clip in clips[3:])
    for clip in clips:
        info = soundfile.info(tmp_path / "music" / clip["file"])
        assert (info.samplerate, info.channels) == (8_000, 1)
        assert info.duration == pytest.approx(CLIP_SAMPLES / RATE_HZ, abs=0.01)
    assert {"waveforms.png", "spectrograms.png"} <= {path.name for path in (tmp_path / "music").iterdir()}


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--run", "{tmp}/nowhere"], BAD_DATA, "has no config.json"),
        (["--run", "{wave}", "--genre", "polka"], USAGE, "not polka"),
        (["--run", "{seed}", "--genre", "rock"], USAGE, "not trained on genres"),
        (["--run", "{wave}", "--count", "0"], USAGE, "--count must be"),
        (["--run", "{wave}", "--data", "{tmp}"], BAD_DATA, "no dataset.json"),
        (["--run", "{wave}", "--amount", "nan"], USAGE, "--amount must be"),
        (["--run", "{wave}", "--seed", "-1"], USAGE, "--seed must be"),
        (["--run", "{wave}", "--output-rate-hz", "1"], USAGE, "--output-rate-hz must be"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_a_code(wave, seed, tmp_path, capsys, flags, code, said):
    given = [flag.format(wave=wave, seed=seed, tmp=tmp_path) for flag in flags]
    assert main(["generate", "--output", str(tmp_path / "music"), *given]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("python -m trainer: error: ")
    assert said in error
    assert not (tmp_path / "music").exists()
