import dataclasses
import json

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import CLIP_SAMPLES, GENRES, RATE_HZ

from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError
from preprocessing.features.attributes import measure
from trainer.__main__ import main
from trainer.config import MODES, UNCONDITIONAL_GUIDANCE
from trainer.generation.generator import Generator
from trainer.generation.load import load

pytestmark = pytest.mark.long


def clips(count=3, samples=CLIP_SAMPLES):
    return np.random.default_rng(0).uniform(-0.2, 0.2, (count, samples)).astype(np.float32)


def test_the_same_seed_gives_the_same_bits_and_another_seed_different_ones(wave, reference):
    for run in (wave, reference):
        generator, again = load(run), load(run)
        generated = generator.sample(count=3, seed=5)
        assert generated.shape == (3, CLIP_SAMPLES)
        assert generated.dtype == np.float32
        assert np.abs(generated).max() <= 1
        np.testing.assert_array_equal(again.sample(count=3, seed=5), generated)
        assert not np.array_equal(generator.sample(count=3, seed=6), generated)
        np.testing.assert_allclose(generator.sample(count=11, seed=5)[:3], generated, atol=1e-5)
    generator, again = load(wave), load(wave)
    for generate in (
        lambda generator: generator.vary(clips(), 0.5, seed=3),
        lambda generator: generator.transfer(clips(), "rock", "blues"),
        lambda generator: generator.extend(clips()[:, :400], seed=3),
        lambda generator: generator.interpolate(clips()[0], clips()[1], 3),
    ):
        np.testing.assert_array_equal(generate(generator), generate(again))


def test_what_is_left_open_comes_from_training_clips_and_the_level_is_theirs(wave):
    generator = load(wave)
    assert {row["genre"] for row in generator.metadata.empirical_conditions} == set(GENRES)
    first_rows = generator.sample(2, seed=5)
    loudness_db = generator.metadata.attributes["loudness_db"].mean
    row = {"genre": "rock", "loudness_db": loudness_db, "centroid_hz": None, "tempo_bpm": 90.0, "key": None}
    metadata = dataclasses.replace(generator.metadata, empirical_conditions=[row])
    generator = Generator(generator.model, metadata, generator.path, generator.checkpoint)
    generated = generator.sample(2, seed=5)
    assert np.abs(generated - first_rows).max() > 1e-3
    for clip in generated:
        assert measure(clip, RATE_HZ).loudness_db == pytest.approx(loudness_db, abs=0.2)
    guided = generator.sample(2, seed=5, genre="rock", guidance=UNCONDITIONAL_GUIDANCE)
    np.testing.assert_allclose(generated, guided, atol=5e-4)
    assert np.abs(generator.sample(2, seed=5, genre="rock") - guided).max() > 1e-3
    np.testing.assert_allclose(generator.sample(3, seed=5)[:2], generated, atol=1e-5)


def test_the_noise_scale_determines_the_distance_of_variations_from_the_reconstruction(wave):
    generator = load(wave)
    still = generator.reconstruct(clips())
    np.testing.assert_allclose(generator.vary(clips(), noise_scale=0.0), still, atol=1e-6)
    distances = [np.abs(generator.vary(clips(), amount) - still).mean() for amount in (0.1, 0.5, 2.0)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_an_interpolation_goes_from_one_reconstruction_to_the_other(wave, reference):
    for run, genre in ((wave, ["blues", "rock"]), (reference, None)):
        generator = load(run)
        first, last = clips(2)
        generated = generator.interpolate(first, last, 4, genre)
        assert generated.shape == (4, CLIP_SAMPLES)
        ends = generator.reconstruct(clips(2), genre)
        np.testing.assert_allclose(generated[[0, -1]], ends, atol=5e-5)
        with pytest.raises(CommandError, match="at least 2 steps"):
            generator.interpolate(first, last, 1)


def test_a_transfer_changes_the_sound_and_a_continuation_goes_on(wave):
    generator = load(wave)
    same, other = (generator.transfer(clips(), genre, "blues") for genre in ("blues", "rock"))
    assert np.abs(same - other).max() > 1e-4
    generated = generator.extend(clips()[:, :500], secs=2.0)
    assert generated.shape == (3, 2 * RATE_HZ)
    np.testing.assert_allclose(generated[:, :440], clips()[:, :440], atol=1e-3)
    with pytest.raises(CommandError, match="longer than the clip that it continues"):
        generator.extend(clips(), secs=0.5)


def test_a_guidance_of_zero_ignores_the_condition(wave):
    generator = load(wave)
    blues, rock = (generator.transfer(clips(1), genre, "blues", guidance=0.0) for genre in ("blues", "rock"))
    np.testing.assert_allclose(blues, rock, atol=1e-6)
    assert np.abs(generator.transfer(clips(1), "rock", "blues") - rock).max() > 1e-4
    nothing = {"genre": None, "attributes": {"loudness_db": None}}
    np.testing.assert_array_equal(generator.sample(1, **nothing), generator.sample(1))


def test_new_clips_have_any_length_and_follow_the_condition(wave, reference):
    generator = load(wave)
    assert generator.sample(2, secs=2.5).shape == (2, 2.5 * RATE_HZ)
    statistics = generator.metadata.attributes["loudness_db"]
    for level in (statistics.low, statistics.high):
        (clip,) = generator.sample(1, attributes={"loudness_db": level})
        assert measure(clip, RATE_HZ).loudness_db == pytest.approx(level, abs=0.2)
    one, other = (generator.sample(1, genre=genre) for genre in GENRES)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(
        generator.sample(2, genre=list(GENRES))[0], generator.sample(2, genre=GENRES[0])[0]
    )
    for make, message in (
        (lambda: generator.sample(1, genre="polka"), "unknown genre polka"),
        (lambda: generator.sample(2, genre=["rock"]), "clips need 2 genres"),
        (
            lambda: generator.sample(1, attributes={"colour": 1.0}),
            "unknown attribute colour",
        ),
        (
            lambda: generator.sample(2, attributes={"loudness_db": [statistics.mean, 3.0]}),
            "`loudness_db` 3 is outside of what this run was trained on",
        ),
        (
            lambda: generator.extend(clips()[:, :400], attributes={"centroid_hz": 1e4}),
            "`centroid_hz` 10000 is outside",
        ),
        (lambda: generator.sample(0), "`count` must be an integer at least 1"),
        (lambda: generator.vary(np.full((1, 500), np.nan)), "clips must be finite"),
        (lambda: generator.sample(1, secs=0.001), "at least 32 samples"),
        (lambda: load(reference).sample(1, genre="rock"), "not trained on genres"),
        (lambda: load(reference).sample(1, secs=2.0), "supports only clips of 1024 samples"),
        (
            lambda: load(reference).transfer(clips(), None),
            "no mode transfer: its modes are prior, variation, reconstruct, interpolate",
        ),
    ):
        with pytest.raises(CommandError, match=message) as caught:
            make()
        assert caught.value.exit_code == USAGE


def test_the_reference_model_generates_as_in_the_notebook(reference):
    generated = load(reference).sample(count=2)
    assert 0 <= generated.min() <= generated.max() <= 1  # the sigmoid of the logits


def test_the_command_generates_in_every_mode(wave, dataset, tmp_path):
    flags = ["generate", "--run", str(wave), "--output", str(tmp_path / "music"), "--count", "3"]
    assert main([*flags, "--data", str(dataset), "--output-rate-hz", "8000", "--steps", "4"]) == 0
    (take,) = (tmp_path / "music").iterdir()
    listed = json.loads((take / "music.json").read_text())
    counts = {mode: sum(one["mode"] == mode for one in listed) for mode in MODES}
    assert counts == {mode: 4 if mode == "interpolate" else 3 for mode in MODES}
    for one in listed:
        info = soundfile.info(take / one["file"])
        assert (info.samplerate, info.channels) == (8_000, 1)
        assert info.duration == pytest.approx(CLIP_SAMPLES / RATE_HZ, abs=0.01)
        if one["mode"] in ("variation", "reconstruct", "continue"):
            assert one["from"].startswith(one["genre"])
        if one["mode"] == "transfer":
            assert not one["from"].startswith(one["genre"])
    for mode in MODES:
        assert {"waveforms.png", "spectrograms.png"} <= {path.name for path in (take / mode).iterdir()}


def wavs(take):
    return {path.relative_to(take): path.read_bytes() for path in take.rglob("*.wav")}


def test_each_call_adds_a_take_that_can_be_made_again(wave, tmp_path):
    def generate(*given):
        before = set(tmp_path.iterdir())
        assert main(["generate", "--output", str(tmp_path), *given]) == 0
        (take,) = set(tmp_path.iterdir()) - before
        return take

    flags = ["--run", str(wave), "--mode", "prior", "--genre", "rock", "--secs", "2", "--count", "3"]
    assert main(["generate", "--output", str(tmp_path), *flags, "--tempo-bpm", "120"]) == USAGE
    loudness_db = load(wave).metadata.attributes["loudness_db"].mean
    key = load(wave).metadata.keys[0]
    first = generate(*flags, "--loudness-db", str(loudness_db), "--key", key.lower(), "--seed", "7")
    listed = json.loads((first / "music.json").read_text())
    assert [(one["mode"], one["genre"]) for one in listed] == [("prior", "rock")] * 3
    assert soundfile.info(first / "prior/00.wav").duration == pytest.approx(2.0)
    kept = wavs(first)

    again = generate("--like", str(first))
    assert wavs(again) == kept
    assert (again / "recipe.json").read_bytes() == (first / "recipe.json").read_bytes()
    varied = generate("--like", str(first / "recipe.json"), "--seed", "8", "--count", "2")
    assert len(wavs(varied)) == 2
    assert not set(wavs(varied).values()) & set(kept.values())
    options = json.loads((varied / "recipe.json").read_text())["options"]
    assert (options["seed"], options["genre"], options["attributes"]) == (
        8,
        "rock",
        {"loudness_db": loudness_db},
    )
    assert options["key"] == key
    assert wavs(first) == kept


def test_a_take_of_another_checkpoint_or_none_is_refused(wave, reference, tmp_path, capsys):
    def refused(*given):
        code = main(["generate", "--output", str(tmp_path / "music"), *given])
        return code, capsys.readouterr().err

    flags = ["--run", str(wave), "--mode", "prior", "--count", "1"]
    assert main(["generate", "--output", str(tmp_path), *flags]) == 0
    (take,) = tmp_path.iterdir()
    code, message = refused("--like", str(tmp_path))
    assert (code, "there is no recipe.json" in message) == (BAD_DATA, True)
    recipe = json.loads((take / "recipe.json").read_text())
    (take / "recipe.json").write_text(json.dumps({**recipe, "checkpoint_sha256": "ab"}))
    code, message = refused("--like", str(take))
    assert (code, "give --run" in message) == (BAD_DATA, True)
    assert (
        main(["generate", "--output", str(tmp_path / "o"), "--like", str(take), "--run", str(reference)]) == 0
    )
    (take / "recipe.json").write_text("{}")
    code, message = refused("--like", str(take))
    assert (code, "is not the recipe" in message) == (USAGE, True)
    code, message = refused("--mode", "prior")
    assert (code, "--run is required" in message) == (USAGE, True)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--run", "{tmp}/nowhere"], BAD_DATA, "has no config.json"),
        (["--run", "{wave}", "--genre", "polka"], USAGE, "unknown genre polka"),
        (["--run", "{reference}", "--genre", "rock"], USAGE, "not trained on genres"),
        (["--run", "{reference}", "--mode", "transfer"], USAGE, "no mode transfer"),
        (["--run", "{wave}", "--count", "0"], USAGE, "--count: must be"),
        (["--run", "{wave}", "--data", "{tmp}"], BAD_DATA, "no dataset.json"),
        (["--run", "{wave}", "--noise-scale", "nan"], USAGE, "--noise-scale: must be"),
        (["--run", "{wave}", "--seed", "-1"], USAGE, "--seed: must be"),
        (["--run", "{wave}", "--loudness-db", "20"], USAGE, "--loudness-db 20 is outside"),
        (
            ["--run", "{wave}", "--key", "H minor"],
            USAGE,
            "--key: 'H minor' is not a key: write a tonic from A to G",
        ),
        (["--run", "{wave}", "--mode", "variation", "--key", "A minor"], USAGE, "--key has no effect"),
        (["--run", "{wave}", "--beat-clarity", "2"], USAGE, "--beat-clarity: must be"),
        (["--run", "{wave}", "--mode", "variation", "--tempo-bpm", "99"], USAGE, "--tempo-bpm has no effect"),
        (["--run", "{wave}", "--steps", "1"], USAGE, "--steps: must be"),
        (["--run", "{wave}", "--noise-scale", "1e30"], USAGE, "--noise-scale: must be"),
        (["--run", "{wave}", "--to-genre", "polka"], USAGE, "unknown genre polka"),
        (["--run", "{wave}", "--mode", "continue", "--secs", "0.1"], USAGE, "--secs 0.1 is not longer than"),
        (["--run", "{wave}", "--output", ""], USAGE, "--output: must not be empty"),
        (["--run", "{wave}", "--output", "{wave}/config.json"], STORAGE_FAILED, "config.json"),
        (["--run", "{wave}", "--secs", "0"], USAGE, "--secs: must be above 0"),
        (["--run", "{wave}", "--temperature", "-1"], USAGE, "--temperature: must be"),
        (["--run", "{wave}", "--temperature", "3"], USAGE, "must be at least 0 and at most 2, not 3"),
        (["--run", "{wave}", "--guidance", "11"], USAGE, "must be at least 0 and at most 10, not 11"),
        (["--run", "{wave}", "--output-rate-hz", "1"], USAGE, "--output-rate-hz: must be"),
    ],
)
def test_an_error_is_one_sentence_with_an_exit_code(wave, reference, tmp_path, capsys, flags, code, message):
    given = [flag.format(wave=wave, reference=reference, tmp=tmp_path) for flag in flags]
    assert main(["generate", "--output", str(tmp_path / "music"), *given]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("python -m trainer")
    assert message in error
    assert not (tmp_path / "music").exists()


def test_modes_that_the_options_do_not_fit_are_left_out(wave, tmp_path, capsys):
    flags = ["--run", str(wave), "--count", "1", "--secs", "0.1", "--mode", "interpolate"]
    assert main(["generate", "--output", str(tmp_path / "one"), *flags[:4], *flags[6:], "--steps", "2"]) == 0
    (music,) = (tmp_path / "one").glob("*/music.json")
    first, last = json.loads(music.read_text())
    assert first["title"] != last["title"]
    assert main(["generate", "--output", str(tmp_path / "all"), *flags[:-2]]) == 0
    assert "the mode continue is left out" in capsys.readouterr().out
    (music,) = (tmp_path / "all").glob("*/music.json")
    modes = [entry["mode"] for entry in json.loads(music.read_text())]
    assert {mode: modes.count(mode) for mode in modes if mode != "interpolate"} == dict.fromkeys(
        ("prior", "variation", "reconstruct", "transfer"), 1
    )


def test_a_continuation_does_not_depend_on_others(wave):
    generator, known = load(wave), clips(9)[:, :400]
    together = generator.extend(known, seed=2)
    np.testing.assert_array_equal(generator.extend(known[:1], seed=2), together[:1])
    np.testing.assert_array_equal(generator.extend(known[:3], seed=2), together[:3])


def test_a_level_beyond_full_scale_is_turned_down_and_not_clipped(wave, monkeypatch):
    generator = load(wave)
    sine = np.sin(np.arange(CLIP_SAMPLES) / 5).astype(np.float32)
    monkeypatch.setattr(generator.model, "synthesize", lambda *_: 8 * sine[np.newaxis])
    level = generator.metadata.attributes["loudness_db"].low
    (clip,) = generator.sample(1, attributes={"loudness_db": level})
    assert measure(clip, RATE_HZ).loudness_db == pytest.approx(level, abs=0.2)
    assert np.corrcoef(clip, sine)[0, 1] > 0.999
