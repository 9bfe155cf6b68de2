"""Pictures and GIFs, read back with Pillow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from trainer.reporting import figures

RATE_HZ = 3_000


def tone(hz, secs=2.0, rate_hz=RATE_HZ):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(secs * rate_hz)) / rate_hz)).astype(np.float32)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def draw_waveforms(path, clips, heading="epoch 1"):
    figures.draw_waveforms(path, {"original": clips, "generated": clips}, RATE_HZ, ["one", "two"], heading)
    return pixels(path)


def draw_spectrograms(path, spectrograms, others):
    rows = {"original": spectrograms, "generated": others}
    figures.draw_spectrograms(path, rows, RATE_HZ, 0.05, np.linspace(20, 1480, 16), ["one", "two"], "epoch 1")
    return pixels(path)


def test_a_louder_waveform_fills_more_pixels(tmp_path):
    loud = np.stack([tone(100), tone(200)])
    first, repeated, quiet = (draw_waveforms(tmp_path / "a.png", clips) for clips in (loud, loud, loud * 0.5))
    assert first.shape[1] == figures.PICTURE_WIDTH_PX
    np.testing.assert_array_equal(first, repeated)
    assert np.ptp(first) > 200
    dark_pixels = np.count_nonzero(first.min(axis=2) < 128)
    assert dark_pixels > 1.5 * np.count_nonzero(quiet.min(axis=2) < 128)


def test_all_spectrograms_of_a_picture_share_one_colour_scale(tmp_path):
    loud = np.random.default_rng(0).uniform(-60, 0, (2, 400, 16)).astype(np.float32)
    same, quieter = (draw_spectrograms(tmp_path / "a.png", loud, others) for others in (loud, loud - 60))
    assert same.shape[1] == figures.PICTURE_WIDTH_PX
    height = len(same)
    originals = np.s_[: height // 2]
    assert np.abs(same[originals].astype(int) - quieter[originals]).mean() < 5  # the palettes differ
    generated = np.s_[height * 2 // 3 : height * 5 // 6, 200:1200]
    assert quieter[generated].mean() < same[generated].mean() / 2


def test_pictures_of_a_diverged_model_are_drawn(tmp_path):
    diverged = np.full((2, 6_000), np.nan, np.float32)
    assert np.ptp(draw_waveforms(tmp_path / "a.png", diverged)) > 200
    spectrograms = diverged.reshape(2, -1, 16)
    assert np.ptp(draw_spectrograms(tmp_path / "b.png", spectrograms, spectrograms))


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    def ink(title):
        path = tmp_path / "a.png"
        figures.draw_waveforms(path, {"original": np.stack([tone(100)])}, RATE_HZ, [title], "epoch 1")
        return np.count_nonzero(pixels(path).min(axis=2) < 128)

    letter, name = ink("a") - ink(" "), ink("$a$ a$") - ink(" ")  # as a formula, one letter and " a$"
    assert name > 4 * letter
    assert ink("Joey Bada$$ - 95 Til Infinity") > ink(" ")
    axes = Figure().add_subplot()
    axes.plot([0, 1], label="A$AP Mone$y")
    legend = axes.legend()
    figures.show_names_as_they_are(legend)
    assert not any(text.get_parse_math() for text in legend.get_texts())
    figures.draw_latents(tmp_path / "b.png", np.eye(4, 3), ["Ca$$h", "A$AP Mone$y", "x", "x"])
    assert np.ptp(pixels(tmp_path / "b.png")) > 200


def test_a_missing_title_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        draw_waveforms(tmp_path / "a.png", np.zeros((3, 100), np.float32))


def write_gif(tmp_path, shades):
    """Write a GIF of grey pictures; return the shade and the milliseconds of each of its frames."""
    frames = []
    for index, shade in enumerate(shades):
        frames.append(tmp_path / f"{index:03}.png")
        Image.new("RGB", (1_200, 60), (shade, shade, shade)).save(frames[-1])
    figures.write_training_gif(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.width == figures.GIF_WIDTH_PX
        assert gif.info["loop"] == 0
        shown = [
            (frame.convert("L").getpixel((5, 5)), frame.info["duration"])
            for frame in ImageSequence.Iterator(gif)
        ]
    return zip(*shown, strict=True)


def test_a_gif_shows_each_epoch_and_pauses_on_the_last(tmp_path):
    shades, durations_ms = write_gif(tmp_path, [0, 80, 160, 240])
    assert shades == pytest.approx((0, 80, 160, 240), abs=2)
    assert durations_ms == (500, 500, 500, 2_000)


def test_a_long_gif_is_thinned_evenly_between_its_first_and_last_epoch(tmp_path):
    shades, _ = write_gif(tmp_path, range(0, 200, 2))
    assert len(shades) == figures.GIF_MAX_FRAMES
    assert (shades[0], shades[-1]) == pytest.approx((0, 198), abs=2)
    assert np.diff(shades).max() <= 10


def test_a_gif_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        figures.write_training_gif(tmp_path / "a.gif", [])


def test_neither_pictures_nor_reports_need_tensorflow():
    code = "import sys, trainer.reporting.report; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
