import dataclasses
import json

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import CLIP_SAMPLES, GENRES, RATE_HZ, WAVE, without_figures_and_music

from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer.__main__ import main
from trainer.config import MODES, UNCONDITIONAL_GUIDANCE
from trainer.generation.generator import load
from trainer.training.train import train_and_evaluate


def trained(dataset, folder, given):
    given = {**given, "epochs": 1, "sample_clips": 2}
    with without_figures_and_music():
        train_and_evaluate(str(dataset), str(folder), given, 1, folder / "c")
    return folder


@pytest.fixture(scope="module")
def wave(dataset, tmp_path_factory):
    return trained(dataset, tmp_path_factory.mktemp("wave"), {"preset": "wave", **WAVE})


@pytest.fixture(scope="module")
def reference(dataset, tmp_path_factory):
    return trained(dataset, tmp_path_factory.mktemp("reference"), {"preset": "reference"})


def clips(count=3, samples=CLIP_SAMPLES):
    return np.random.default_rng(0).uniform(-0.2, 0.2, (count, samples)).astype(np.float32)


def test_the_same_seed_gives_the_same_bits_and_another_seed_different_ones(wave, reference):
    for run in (wave, reference):
        music, again = load(run), load(run)
        made = music.sample(count=3, seed=5)
        assert made.shape == (3, CLIP_SAMPLES)
        assert made.dtype == np.float32
        assert np.abs(made).max() <= 1
        np.testing.assert_array_equal(again.sample(count=3, seed=5), made)
        assert not np.array_equal(music.sample(count=3, seed=6), made)
        np.testing.assert_allclose(music.sample(count=11, seed=5)[:3], made, atol=1e-5)
    music, again = load(wave), load(wave)
    for way in (
        lambda music: music.vary(clips(), 0.5, seed=3),
        lambda music: music.transfer(clips(), "rock", "blues"),
        lambda music: music.extend(clips()[:, :400], seed=3),
        lambda music: music.interpolate(clips()[0], clips()[1], 3),
    ):
        np.testing.assert_array_equal(way(music), way(again))


def test_unconditional_clips_have_conditions_of_training_clips(wave):
    music = load(wave)
    assert {row["genre"] for row in music.metadata.empirical_conditions} == set(GENRES)
    left_open = music.sample(2, seed=5, genre=[None, None])
    row = {"genre": "rock", "loudness_db": -9.0, "centroid_hz": None, "tempo_bpm": 90.0}
    music.metadata = dataclasses.replace(music.metadata, empirical_conditions=[row])
    made = music.sample(2, seed=5)
    told = {"genre": "rock", "attributes": {"loudness_db": -9.0}}
    for other in (left_open, music.sample(2, seed=5, **told)):
        assert np.abs(made - other).max() > 1e-3
    # Guided is the genre that was drawn, and no attribute.
    ungenred = music.sample(2, seed=5, attributes=told["attributes"], guidance=1.0)
    np.testing.assert_allclose(music.sample(2, seed=5, guidance=0.0), ungenred, atol=5e-4)
    music.metadata = dataclasses.replace(music.metadata, empirical_conditions=[{**row, "loudness_db": None}])
    guided = music.sample(2, seed=5, genre="rock", guidance=UNCONDITIONAL_GUIDANCE)
    np.testing.assert_allclose(music.sample(2, seed=5), guided, atol=5e-4)
    music.metadata = dataclasses.replace(music.metadata, empirical_conditions=[row])
    np.testing.assert_allclose(music.sample(3, seed=5)[:2], made, atol=1e-5)


def test_variations_depart_from_the_reconstruction_by_the_amount(wave):
    music = load(wave)
    still = music.reconstruct(clips())
    np.testing.assert_allclose(music.vary(clips(), noise_scale=0.0), still, atol=1e-6)
    distances = [np.abs(music.vary(clips(), amount) - still).mean() for amount in (0.1, 0.5, 2.0)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_an_interpolation_goes_from_one_reconstruction_to_the_other(wave, reference):
    for run, genre in ((wave, ["blues", "rock"]), (reference, None)):
        music = load(run)
        first, last = clips(2)
        made = music.interpolate(first, last, 4, genre)
        assert made.shape == (4, CLIP_SAMPLES)
        ends = music.reconstruct(clips(2), genre)
        np.testing.assert_allclose(made[[0, -1]], ends, atol=1e-5)
        with pytest.raises(CommandError, match="at least 2 steps"):
            music.interpolate(first, last, 1)


def test_a_transfer_changes_the_sound_and_a_continuation_goes_on(wave):
    music = load(wave)
    same, other = (music.transfer(clips(), genre, "blues") for genre in ("blues", "rock"))
    assert np.abs(same - other).max() > 1e-4
    made = music.extend(clips()[:, :500], secs=2.0)
    assert made.shape == (3, 2 * RATE_HZ)
    np.testing.assert_allclose(made[:, :440], clips()[:, :440], atol=1e-3)
    with pytest.raises(CommandError, match="longer than the clip that it continues"):
        music.extend(clips(), secs=0.5)


def test_a_guidance_of_zero_ignores_the_condition(wave):
    music = load(wave)
    blues, rock = (music.transfer(clips(1), genre, "blues", guidance=0.0) for genre in ("blues", "rock"))
    np.testing.assert_allclose(blues, rock, atol=1e-6)
    assert np.abs(music.transfer(clips(1), "rock", "blues") - rock).max() > 1e-4
    nothing = {"genre": None, "attributes": {"loudness_db": None}}
    np.testing.assert_array_equal(music.sample(1, **nothing), music.sample(1))


def test_new_clips_have_any_length_and_follow_the_condition(wave, reference):
    music = load(wave)
    assert music.sample(2, secs=2.5).shape == (2, 2.5 * RATE_HZ)
    loud, soft = (music.sample(1, attributes={"loudness_db": level}) for level in (-5.0, -40.0))
    assert not np.array_equal(loud, soft)
    one, other = (music.sample(1, genre=genre) for genre in GENRES)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(music.sample(2, genre=list(GENRES))[0], music.sample(2, genre=GENRES[0])[0])
    for make, said in (
        (lambda: music.sample(1, genre="polka"), "unknown genre polka"),
        (lambda: music.sample(2, genre=["rock"]), "clips need 2 genres"),
        (
            lambda: music.sample(1, attributes={"colour": 1.0}),
            "unknown attribute colour",
        ),
        (lambda: music.sample(0), "number of clips must be at least 1"),
        (lambda: music.vary(np.full((1, 500), np.nan)), "clips must be finite"),
        (lambda: music.sample(1, secs=0.001), "at least 32 samples"),
        (lambda: load(reference).sample(1, genre="rock"), "not trained on genres"),
        (lambda: load(reference).sample(1, secs=2.0), "supports only clips of 1024 samples"),
        (
            lambda: load(reference).transfer(clips(), None),
            "no mode transfer: its modes are prior, variation, reconstruct, interpolate",
        ),
    ):
        with pytest.raises(CommandError, match=said) as caught:
            make()
        assert caught.value.exit_code == USAGE


def test_the_reference_model_generates_as_in_the_notebook(reference):
    made = load(reference).sample(count=2)
    assert 0 <= made.min() <= made.max() <= 1  # the sigmoid of the logits


def test_the_command_generates_in_every_mode(wave, dataset, tmp_path):
    flags = ["generate", "--run", str(wave), "--output", str(tmp_path / "music"), "--count", "3"]
    assert main([*flags, "--data", str(dataset), "--output-rate-hz", "8000", "--steps", "4"]) == 0
    listed = json.loads((tmp_path / "music/music.json").read_text())
    counts = {way: sum(one["mode"] == way for one in listed) for way in MODES}
    assert counts == {way: 4 if way == "interpolate" else 3 for way in MODES}
    for one in listed:
        info = soundfile.info(tmp_path / "music" / one["file"])
        assert (info.samplerate, info.channels) == (8_000, 1)
        assert info.duration == pytest.approx(CLIP_SAMPLES / RATE_HZ, abs=0.01)
        if one["mode"] in ("variation", "reconstruct", "continue"):
            assert one["from"].startswith(one["genre"])
        if one["mode"] == "transfer":
            assert not one["from"].startswith(one["genre"])
    for way in MODES:
        assert {"waveforms.png", "spectrograms.png"} <= {p.name for p in (tmp_path / "music" / way).iterdir()}
    assert main([*flags, "--mode", "prior", "--genre", "rock", "--secs", "2", "--tempo-bpm", "120"]) == USAGE
    assert main([*flags, "--mode", "prior", "--genre", "rock", "--secs", "2", "--loudness-db", "-12"]) == 0
    listed = json.loads((tmp_path / "music/music.json").read_text())
    assert [(one["mode"], one["genre"]) for one in listed] == [("prior", "rock")] * 3
    assert soundfile.info(tmp_path / "music/prior/00.wav").duration == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--run", "{tmp}/nowhere"], BAD_DATA, "has no config.json"),
        (["--run", "{wave}", "--genre", "polka"], USAGE, "unknown genre polka"),
        (["--run", "{reference}", "--genre", "rock"], USAGE, "not trained on genres"),
        (["--run", "{reference}", "--mode", "transfer"], USAGE, "no mode transfer"),
        (["--run", "{wave}", "--count", "0"], USAGE, "--count: must be"),
        (["--run", "{wave}", "--data", "{tmp}"], BAD_DATA, "no dataset.json"),
        (["--run", "{wave}", "--noise-scale", "nan"], USAGE, "--noise-scale: must be"),
        (["--run", "{wave}", "--seed", "-1"], USAGE, "--seed: must be"),
        (["--run", "{wave}", "--steps", "1"], USAGE, "--steps: must be"),
        (["--run", "{wave}", "--temperature", "-1"], USAGE, "--temperature: must be"),
        (["--run", "{wave}", "--output-rate-hz", "1"], USAGE, "--output-rate-hz: must be"),
    ],
)
def test_an_error_is_one_sentence_with_an_exit_code(wave, reference, tmp_path, capsys, flags, code, said):
    given = [flag.format(wave=wave, reference=reference, tmp=tmp_path) for flag in flags]
    assert main(["generate", "--output", str(tmp_path / "music"), *given]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("python -m trainer")
    assert said in error
    assert not (tmp_path / "music").exists()
