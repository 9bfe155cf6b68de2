"""The demo corpus: its layout, that it is reproducible, and that what it holds is music."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preprocessing.dataset import splits
from preprocessing.synthetic import corpus
from preprocessing.synthetic.__main__ import main
from preprocessing.synthetic.composition import PARTS, draw_take, parse_chord
from preprocessing.synthetic.styles import STYLES
from preprocessing.synthetic.synth import SAMPLE_RATE, VOICES


@pytest.fixture(scope="module")
def clips():
    """Three clips of each genre, `{genre: float32[3, samples]}`."""
    return {genre: np.stack([corpus.synthesize_clip(genre, n) for n in range(3)]) for genre in corpus.GENRES}


def power(sound):
    """Power spectrum, and the frequency in Hz of each of its bins."""
    return np.abs(np.fft.rfft(sound)) ** 2, np.fft.rfftfreq(sound.shape[-1], 1 / SAMPLE_RATE)


def envelope(sound, frame_s=0.02):
    """RMS of each frame."""
    frame = round(frame_s * SAMPLE_RATE)
    return np.sqrt(np.mean(sound[: len(sound) // frame * frame].reshape(-1, frame) ** 2, axis=1))


def test_genres_are_of_gtzan():
    assert len(corpus.GENRES) == 5
    assert set(corpus.GENRES) <= set(splits.GENRES)


def test_clip_is_30_s_of_unclipped_sound(clips):
    for sounds in clips.values():
        assert sounds.dtype == np.float32
        assert sounds.shape == (3, 30 * 22_050)
        assert np.abs(sounds).max(axis=1) == pytest.approx(0.85, abs=1e-3)


def test_clip_depends_on_all_its_arguments_and_nothing_else(clips):
    again = corpus.synthesize_clip("jazz", 1)
    assert np.array_equal(again, clips["jazz"][1])
    assert not np.array_equal(again, clips["jazz"][0])
    assert not np.array_equal(again, corpus.synthesize_clip("jazz", 1, seed=1))


def test_clips_are_equally_loud_and_never_silent_for_long(clips):
    sounds = np.concatenate(list(clips.values()))
    loudness_db = 10 * np.log10(np.mean(sounds**2, axis=1))
    assert np.ptp(loudness_db) < 4
    assert min(envelope(sound, frame_s=1.0).min() for sound in sounds) > 0.02


def test_clips_start_and_end_without_a_click(clips):
    for sound in np.concatenate(list(clips.values())):
        assert np.abs(sound[[0, -1]]).max() < 1e-3


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_music_survives_resampling_to_3000_hz(clips, genre):
    spectrum, hz = power(clips[genre])
    share = spectrum[:, hz < 1400].sum(axis=1) / spectrum.sum(axis=1)
    melodic = spectrum[:, (hz > 200) & (hz < 1400)].sum(axis=1) / spectrum.sum(axis=1)
    assert share.min() > 0.8
    assert melodic.min() > 0.25


def test_genres_differ_in_bass_and_beat(clips):
    def bass(genre):
        spectrum, hz = power(clips[genre])
        return spectrum[:, hz < 150].sum() / spectrum.sum()

    def strokes(genre):
        """Sudden rises by 6 dB and more from one frame to the next but one, in a second."""
        rises = [np.log2(e[2:] / e[:-2]) > 1 for e in map(envelope, clips[genre])]
        return np.mean([np.sum(rise[1:] & ~rise[:-1]) for rise in rises]) / 30

    assert bass("reggae") > 1.1 * bass("blues") > 1.5 * bass("classical")
    assert strokes("disco") > 1.5 * strokes("classical")


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_beats_fall_on_the_grid_of_the_tempo(genre):
    take = draw_take(np.random.default_rng(5), STYLES[genre])
    low, high = STYLES[genre].tempo_bpm
    beat_s = take.time(4) - take.time(0)
    assert low <= 60 / beat_s <= high
    assert take.time(2) - take.time(0) == pytest.approx(STYLES[genre].swing * beat_s)


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_every_pattern_fills_its_bar(genre):
    for groove in STYLES[genre].grooves:
        patterns = {groove.bass, groove.comp, *groove.drums.values(), groove.fill} - {""}
        assert len({len(pattern) for pattern in patterns}) == 1
    assert all(len(cell) == 4 for cell in STYLES[genre].cells)
    assert STYLES[genre].cells[0].startswith("x"), "the first cell opens each motif"


@pytest.mark.parametrize("genre", corpus.GENRES)
def test_melody_stays_in_register_and_returns(genre):
    for seed in range(20):
        take = draw_take(np.random.default_rng(seed), STYLES[genre])
        period = len(take.form) * 2 * len(take.chords)
        melody = list(PARTS["lead"](take, 2 * period))
        assert all(261 < note.hz < 785 for note in melody)
        assert [n.hz for n in melody[: len(melody) // 2]] == [n.hz for n in melody[len(melody) // 2 :]]


def test_chords_are_spelled_as_musicians_do():
    c = 0
    assert parse_chord("V7", c) == (7, 11, 2, 5)
    assert parse_chord("bVI", c) == (8, 0, 3)
    assert parse_chord("iih7", c) == (2, 5, 8, 0)
    assert parse_chord("Imaj7", 2) == (2, 6, 9, 1)


@pytest.mark.parametrize("voice", ["piano", "flute", "vibraphone", "guitar", "harp", "electric bass"])
@pytest.mark.parametrize("hz", [110.0, 311.1, 622.3])
def test_voices_are_in_tune(voice, hz):
    """The fundamental lies within 10 cents, measured where the spectrum peaks around it."""
    sound = VOICES[voice](hz, 2.0)
    spectrum, bins = power(np.pad(sound * np.hanning(len(sound)), (0, 8 * len(sound))))
    near = np.abs(np.log2(np.maximum(bins, 1) / hz)) < 0.5
    assert abs(1200 * np.log2(bins[near][spectrum[near].argmax()] / hz)) < 10


def test_corpus_is_laid_out_as_gtzan_and_a_second_run_keeps_it(tmp_path, monkeypatch):
    calls = []
    assert corpus.write_corpus(tmp_path, clips_per_genre=1, on_clip=lambda: calls.append(1)) == 5
    paths = sorted(tmp_path.rglob("*.*"))
    assert [splits.parse_track(str(path)).track_id for path in paths] == [f"{g}.00000" for g in corpus.GENRES]
    info = soundfile.info(paths[0])
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (22_050, 1, "PCM_16", 661_500)
    assert len(calls) == 5

    paths[2].write_bytes(paths[2].read_bytes()[:1000])  # as an interrupted run leaves it
    made = []
    synthesize = corpus.synthesize_clip
    monkeypatch.setattr(corpus, "synthesize_clip", lambda *args: made.append(args) or synthesize(*args))
    assert corpus.write_corpus(tmp_path, clips_per_genre=1) == 1
    assert made == [(corpus.GENRES[2], 0, 0)]
    assert paths[2].stat().st_size == corpus.WAV_BYTES


@pytest.mark.parametrize(
    "flags", [["--clips-per-genre", "0"], ["--clips-per-genre", "many"], ["--seed", "-1"]]
)
def test_wrong_number_is_one_sentence_and_code_2(tmp_path, capsys, flags):
    with pytest.raises(SystemExit) as stop:
        main(["--output", str(tmp_path / "out"), *flags])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert flags[0] in error
    assert not (tmp_path / "out").exists()


def test_command_sums_up_in_one_line(tmp_path):
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


def test_unwritable_output_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["--output", str(tmp_path / "file")]) != 0
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error" in error
    assert "Traceback" not in error
