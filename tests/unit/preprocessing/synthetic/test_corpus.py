"""The demo corpus: its layout, its reproducibility, and musical properties of its clips."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preprocessing.dataset import splits
from preprocessing.synthetic import corpus
from preprocessing.synthetic.__main__ import main
from preprocessing.synthetic.composition import PARTS, compose, parse_chord
from preprocessing.synthetic.styles import STYLES
from preprocessing.synthetic.synth import SAMPLE_RATE_HZ, VOICES


@pytest.fixture(scope="module")
def clips():
    """Three clips of each genre, `{genre: float32[3, samples]}`."""
    return {genre: np.stack([corpus.synthesize_clip(genre, n) for n in range(3)]) for genre in corpus.GENRES}


def power_spectrum(sound):
    """Return the power spectrum, and the frequency of each bin in Hz."""
    return np.abs(np.fft.rfft(sound)) ** 2, np.fft.rfftfreq(sound.shape[-1], 1 / SAMPLE_RATE_HZ)


def frame_rms(sound, frame_secs=0.02):
    """Return the RMS of each frame."""
    frame = round(frame_secs * SAMPLE_RATE_HZ)
    return np.sqrt(np.mean(sound[: len(sound) // frame * frame].reshape(-1, frame) ** 2, axis=1))


def test_the_genres_are_five_of_gtzans():
    assert len(corpus.GENRES) == 5
    assert set(corpus.GENRES) <= set(splits.GENRES)


def test_a_clip_is_30_s_of_unclipped_audio(clips):
    for sounds in clips.values():
        assert sounds.dtype == np.float32
        assert sounds.shape == (3, 30 * 22_050)
        assert np.abs(sounds).max(axis=1) == pytest.approx(0.85, abs=1e-3)


def test_a_clip_is_determined_by_genre_number_and_seed(clips):
    clip = corpus.synthesize_clip("jazz", 1)
    assert np.array_equal(clip, clips["jazz"][1])
    assert not np.array_equal(clip, clips["jazz"][0])
    assert not np.array_equal(clip, corpus.synthesize_clip("jazz", 1, seed=1))


def test_clips_are_equally_loud_and_never_silent_for_long(clips):
    sounds = np.concatenate(list(clips.values()))
    loudness_db = 10 * np.log10(np.mean(sounds**2, axis=1))
    assert np.ptp(loudness_db) < 4
    assert min(frame_rms(sound, frame_secs=1.0).min() for sound in sounds) > 0.02


def test_clips_start_and_end_without_a_click(clips):
    for sound in np.concatenate(list(clips.values())):
        assert np.abs(sound[[0, -1]]).max() < 1e-3


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_most_energy_is_kept_when_resampling_to_3000_hz(clips, genre):
    spectrum, hz = power_spectrum(clips[genre])
    kept_fraction = spectrum[:, hz < 1400].sum(axis=1) / spectrum.sum(axis=1)
    melodic_fraction = spectrum[:, (hz > 200) & (hz < 1400)].sum(axis=1) / spectrum.sum(axis=1)
    assert kept_fraction.min() > 0.8
    assert melodic_fraction.min() > 0.25


def test_genres_differ_in_bass_and_onset_rate(clips):
    def bass_fraction(genre):
        spectrum, hz = power_spectrum(clips[genre])
        return spectrum[:, hz < 150].sum() / spectrum.sum()

    def onsets_per_sec(genre):
        """Count rises by at least 6 dB over two frames, per second."""
        rises = [np.log2(rms[2:] / rms[:-2]) > 1 for rms in map(frame_rms, clips[genre])]
        return np.mean([np.sum(rise[1:] & ~rise[:-1]) for rise in rises]) / 30

    assert bass_fraction("reggae") > 1.1 * bass_fraction("blues") > 1.5 * bass_fraction("classical")
    assert onsets_per_sec("disco") > 1.5 * onsets_per_sec("classical")


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_beats_fall_on_the_grid_of_the_tempo(genre):
    composition = compose(np.random.default_rng(5), STYLES[genre])
    low, high = STYLES[genre].tempo_bpm
    beat_secs = composition.time(4) - composition.time(0)
    assert low <= 60 / beat_secs <= high
    assert composition.time(2) - composition.time(0) == pytest.approx(STYLES[genre].swing * beat_secs)


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_every_pattern_has_the_length_of_its_bar(genre):
    for groove in STYLES[genre].grooves:
        patterns = {groove.bass, groove.comp, *groove.drums.values(), groove.fill} - {""}
        assert len({len(pattern) for pattern in patterns}) == 1
    assert all(len(cell) == 4 for cell in STYLES[genre].cells)
    assert STYLES[genre].cells[0].startswith("x"), "the first cell begins each motif"


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_the_melody_stays_in_its_register_and_repeats_with_the_form(genre):
    for seed in range(20):
        composition = compose(np.random.default_rng(seed), STYLES[genre])
        period = len(composition.form) * 2 * len(composition.chords)
        melody = list(PARTS["lead"](composition, 2 * period))
        assert all(261 < note.hz < 785 for note in melody)
        assert [n.hz for n in melody[: len(melody) // 2]] == [n.hz for n in melody[len(melody) // 2 :]]


def test_roman_numerals_are_parsed_to_chords():
    c = 0
    assert parse_chord("V7", c) == (7, 11, 2, 5)
    assert parse_chord("bVI", c) == (8, 0, 3)
    assert parse_chord("iih7", c) == (2, 5, 8, 0)
    assert parse_chord("Imaj7", 2) == (2, 6, 9, 1)


@pytest.mark.parametrize("voice", ["piano", "flute", "vibraphone", "guitar", "harp", "electric bass"])
@pytest.mark.parametrize("hz", [110.0, 311.1, 622.3])
def test_voices_are_in_tune(voice, hz):
    """The spectral peak near the fundamental is within 10 cents of its frequency."""
    sound = VOICES[voice](hz, 2.0)
    spectrum, bins = power_spectrum(np.pad(sound * np.hanning(len(sound)), (0, 8 * len(sound))))
    near = np.abs(np.log2(np.maximum(bins, 1) / hz)) < 0.5
    assert abs(1200 * np.log2(bins[near][spectrum[near].argmax()] / hz)) < 10


def test_the_corpus_has_gtzans_layout_and_only_incomplete_files_are_written_again(tmp_path, monkeypatch):
    calls = []
    assert corpus.write_corpus(tmp_path, clips_per_genre=1, on_clip=lambda: calls.append(1)) == 5
    paths = sorted(tmp_path.rglob("*.*"))
    assert [splits.parse_track(str(path)).track_id for path in paths] == [f"{g}.00000" for g in corpus.GENRES]
    info = soundfile.info(paths[0])
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (22_050, 1, "PCM_16", 661_500)
    assert len(calls) == 5

    paths[2].unlink()  # as after an interrupted run
    paths[3].write_bytes(b"somebody's own file")
    synthesized = []
    synthesize = corpus.synthesize_clip
    monkeypatch.setattr(
        corpus, "synthesize_clip", lambda *args: synthesized.append(args) or synthesize(*args)
    )
    assert corpus.write_corpus(tmp_path, clips_per_genre=1) == 1
    assert synthesized == [(corpus.GENRES[2], 0, 0)]
    assert soundfile.info(paths[2]).frames == 661_500
    assert paths[3].read_bytes() == b"somebody's own file"


@pytest.mark.parametrize(
    "flags", [["--clips-per-genre", "0"], ["--clips-per-genre", "many"], ["--seed", "-1"]]
)
def test_a_wrong_number_is_a_usage_error_in_one_line(tmp_path, capsys, flags):
    with pytest.raises(SystemExit) as stop:
        main(["--output", str(tmp_path / "out"), *flags])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert flags[0] in error
    assert not (tmp_path / "out").exists()


def test_the_command_prints_a_one_line_summary(tmp_path):
    command = [
        sys.executable,
        "-m",
        "preprocessing.synthetic",
        "--output",
        str(tmp_path),
        "--clips-per-genre",
        "1",
    ]
    root = Path(__file__).parents[4]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == f"{tmp_path}: 5 clips of 5 genres, 5 written, 0 kept\n"


def test_an_unwritable_output_is_an_error_without_a_traceback(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert main(["--output", str(tmp_path / "file")]) != 0
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error" in error
    assert "Traceback" not in error
