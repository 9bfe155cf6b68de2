"""What a page about music is made of: its skeleton and style, facts, and clips to see and hear.

The report of a training run and the page of a dataset share it. Every function returns finished markup;
whatever comes from a file or a name is escaped here. A page loads nothing: its media lie in it.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from string import Template

import librosa
import numpy as np
import soundfile
import soxr
from matplotlib import colormaps
from PIL import Image

BROWSER_MIN_RATE_HZ = 8_000  # no browser promises to play less
MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_COMPRESSION = 0.7  # of 0 to 1: speech and music at 8 kHz come to some 10 kbit/s
SPECTROGRAM_RANGE_DB = 80.0

_PICTURE_COLUMNS = 640
_WAVEFORM_ROWS, _MELS, _MEL_ROWS = 96, 64, 192
_WAVEFORM_RGB = (65, 105, 184)
_FRAME_SECS = 0.09  # of the transform, at the least

_SKELETON = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline';
  script-src 'unsafe-inline'">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1d1b22; --soft: #66636f; --line: #dfdce3;
  --train: #4169b8; --test: #c2410c; --warn: #b3261e; --note: #fff4dc; --note-line: #d99a1c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131217; --card: #1d1b22; --ink: #eceaf1; --soft: #a19dac; --line: #35323d;
    --train: #8cabf0; --test: #fb9a5b; --warn: #ff8a80; --note: #302611; --note-line: #d99a1c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: clamp(1.7rem, 5vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 1.25rem; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 3rem 0 .25rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: 0 0 1rem; }
.soft, small { color: var(--soft); font-size: .875rem; font-weight: 400; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.1rem; }

.facts { display: grid; gap: .9rem 1.5rem; margin: 0;
  grid-template-columns: repeat(auto-fit, minmax(135px, 1fr)); }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.facts .wide { grid-column: 1 / -1; display: flex; gap: .9rem; align-items: baseline; }
.facts .wide + .wide { margin-top: -.7rem; }
.facts .wide dt { flex: 0 0 3.4rem; }
.facts .wide dd { font-weight: 400; }

.results { display: flex; flex-wrap: wrap; gap: 1rem; align-items: stretch; }
.results .card { flex: 2 1 420px; min-width: 0; }
.results .note { flex: 1 1 280px; background: var(--note); border-color: var(--note-line);
  border-left-width: 5px; }
.results .card:only-child { max-width: 720px; }
.note strong { display: block; margin-bottom: .25rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem 0 .4rem 1rem; text-align: right; border-top: 1px solid var(--line); }
thead th { border: 0; color: var(--soft); font-size: .8rem; font-weight: 400; }
th:first-child { padding-left: 0; text-align: left; font-weight: 600; }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 1rem; }
.charts .card { display: flex; flex-direction: column; }
.charts small { display: block; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.1rem; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
.legend b { font-weight: 600; }
.train { color: var(--train); } .test { color: var(--test); } .warn { color: var(--warn); }
.charts .card > svg { display: block; width: 100%; height: auto; margin-top: auto; padding-top: .4rem; }
svg text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); }
svg path { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg circle { fill: currentColor; }

.training { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 12px; }
.pair, .gallery { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.pair { margin-top: .75rem; }
.pair-card { margin-top: 1rem; }
.clip { margin: 0; min-width: 0; }
.clip figcaption { display: flex; justify-content: space-between; gap: 1rem; font-weight: 600;
  overflow-wrap: anywhere; }
.picture { position: relative; margin-top: .35rem; cursor: pointer; overflow: hidden; border-radius: 6px; }
.picture img { display: block; width: 100%; height: 190px; }
.picture span { position: absolute; left: 6px; color: #fff; font-size: .7rem;
  text-shadow: 0 0 3px #000, 0 0 3px #000; }
.picture .top { top: 34%; } .picture .bottom { bottom: 2px; }
.picture i { position: absolute; top: 0; bottom: 0; left: calc(var(--played, 0) * 100%); width: 2px;
  background: #fff; box-shadow: 0 0 0 1px #000a; visibility: hidden; }
.started .picture i { visibility: visible; }
.times { display: flex; justify-content: space-between; color: var(--soft); font-size: .75rem; }
audio { display: block; width: 100%; height: 40px; margin-top: .3rem; }
details { margin-top: 3rem; }
summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; font-size: .8rem; }
$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body</main>
<script>
const players = document.querySelectorAll("audio");
const share = (figure, audio) =>
  figure.style.setProperty("--played", audio.currentTime / audio.duration || 0);
players.forEach(audio => {
  const figure = audio.closest("figure"), picture = figure.querySelector(".picture");
  audio.addEventListener("play", () => {
    players.forEach(other => other === audio || other.pause());
    figure.classList.add("started");
  });
  audio.addEventListener("timeupdate", () => share(figure, audio));
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect();
    audio.currentTime = (event.clientX - box.left) / box.width * audio.duration;
    audio.play();
  });
});
</script>
</body>
</html>
""")


@dataclass(frozen=True)
class Sound:
    """One clip of the page: its caption, and its float32 `audio` [samples] in [-1, 1]."""

    caption: str
    audio: np.ndarray
    sample_rate_hz: int

    def spectrogram_db(self, max_hz: float) -> np.ndarray:
        """Compute the log-mel spectrogram up to `max_hz`, float32 [mels, about 640 frames] in dB."""
        window = 2 ** math.ceil(math.log2(_FRAME_SECS * self.sample_rate_hz))
        hop = max(1, len(self.audio) // _PICTURE_COLUMNS)
        power = librosa.feature.melspectrogram(
            y=self.audio, sr=self.sample_rate_hz, n_fft=window, hop_length=hop, n_mels=_MELS, fmax=max_hz
        )
        return librosa.power_to_db(power, amin=1e-9, top_db=None)


Show = Callable[[Sound], str]


def document(title: str, body: str, style: str = "") -> str:
    """Write a whole page around `body`, markup that starts below the heading; `style` adds CSS of its own."""
    return _SKELETON.substitute(title=escape(title), body=body, style=style)


def fact_list(facts: dict[str, str], wide: dict[str, str]) -> str:
    """Lay short facts out as a grid, and `wide` ones on a line each; empty ones are left out."""
    items = [("", name, fact) for name, fact in facts.items()]
    items += [(' class="wide"', name, fact) for name, fact in wide.items()]
    rows = "".join(
        f"<div{style}><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>"
        for style, name, fact in items
        if fact
    )
    return f'<dl class="facts card">{rows}</dl>'


def gallery(heading: str, lead: str, sounds: list[Sound], show: Show) -> str:
    """Show clips side by side under a heading; no clips, no section."""
    if not sounds:
        return ""
    figures = "".join(show(sound) for sound in sounds)
    return f'<h2>{escape(heading)}</h2><p class="soft">{lead}</p><div class="card gallery">{figures}</div>'


def details(summary: str, values: dict) -> str:
    """Fold values away under a line to click on, as JSON."""
    text = escape(json.dumps(values, indent=2, ensure_ascii=False))
    return f"<details><summary>{escape(summary)}</summary><pre>{text}</pre></details>"


def same_scale(sounds: list[Sound], max_hz: float, lossless: bool = True) -> Show:
    """Choose what every picture of a page shares: the brightest colour is the loudest of `sounds`.

    Args:
        sounds: at least one clip.
        max_hz: the top of the frequency axis.
        lossless: whether clips are to be heard as they are, or in a fifth of the bytes.
    """
    top_db = max(float(sound.spectrogram_db(max_hz).max()) for sound in sounds)
    return lambda sound: _clip_figure(sound, top_db, max_hz, lossless)


def data_uri(content: bytes, media_type: str) -> str:
    """Write a file's content as a link that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def to_browser_audio(audio: np.ndarray, sample_rate_hz: int, lossless: bool = True) -> tuple[bytes, str]:
    """Encode a clip, float [samples] in [-1, 1], as a sound file that every browser plays.

    Returns:
        The bytes and the media type of a 16-bit FLAC file, or of a small MP3 file where `lossless` is not
        asked for. A rate below 8,000 Hz is raised to 8,000 Hz; FLAC keeps any other, MP3 goes up to the next
        of its own, or down to its highest.
    """
    sound = io.BytesIO()
    if lossless:
        rate_hz = max(sample_rate_hz, BROWSER_MIN_RATE_HZ)
        samples = pcm16(audio, sample_rate_hz, rate_hz)
        soundfile.write(sound, samples, rate_hz, format="FLAC", subtype="PCM_16")
        return sound.getvalue(), "audio/flac"
    rate_hz = min((rate for rate in MP3_RATES_HZ if rate >= sample_rate_hz), default=MP3_RATES_HZ[-1])
    soundfile.write(
        sound,
        pcm16(audio, sample_rate_hz, rate_hz),
        rate_hz,
        format="MP3",
        compression_level=MP3_COMPRESSION,
        bitrate_mode="VARIABLE",
    )
    return sound.getvalue(), "audio/mpeg"


def pcm16(audio: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample and round to the nearest 16-bit step; libsndfile's own conversion from float rounds down.

    Values beyond [-1, 1] are clipped, not-a-number is silence.
    """
    sound = np.clip(np.nan_to_num(audio, nan=0.0), -1.0, 1.0)
    if from_hz != to_hz:
        sound = soxr.resample(sound, from_hz, to_hz, quality="HQ")
    return np.clip(np.rint(sound * 32_768.0), -32_768, 32_767).astype(np.int16)


def _clip_figure(sound: Sound, top_db: float, max_hz: float, lossless: bool) -> str:
    """Show one clip: caption, picture and player; `top_db` is the dB of the brightest colour."""
    caption = escape(sound.caption)
    media = data_uri(*to_browser_audio(sound.audio, sound.sample_rate_hz, lossless))
    picture = data_uri(_clip_png(sound, top_db, max_hz), "image/png")
    secs = len(sound.audio) / sound.sample_rate_hz
    return (
        f'<figure class="clip"><figcaption>{caption}</figcaption>'
        f'<div class="picture"><img src="{picture}" alt="Waveform and spectrogram of {caption}">'
        f'<span class="top">{max_hz:,.0f} Hz</span><span class="bottom">0 Hz</span><i></i></div>'
        f'<div class="times"><span>0 s</span><span>{secs:.0f} s</span></div>'
        f'<audio controls preload="metadata" src="{media}"></audio></figure>'
    )


def _clip_png(sound: Sound, top_db: float, max_hz: float) -> bytes:
    """Draw a waveform over a spectrogram, edge to edge, so that a player's time is a share of the width."""
    level = np.clip(1 + (sound.spectrogram_db(max_hz)[::-1] - top_db) / SPECTROGRAM_RANGE_DB, 0, 1)
    mels = Image.fromarray(colormaps["magma"](level, bytes=True))
    picture = Image.new("RGBA", (_PICTURE_COLUMNS, _WAVEFORM_ROWS + _MEL_ROWS))
    picture.paste(_waveform(sound.audio), (0, 0))
    picture.paste(mels.resize((_PICTURE_COLUMNS, _MEL_ROWS), Image.Resampling.BILINEAR), (0, _WAVEFORM_ROWS))
    file = io.BytesIO()
    picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, format="PNG")
    return file.getvalue()


def _waveform(audio: np.ndarray) -> Image.Image:
    """Paint each column from its least to its greatest sample, on a transparent ground."""
    edges = np.linspace(0, len(audio), _PICTURE_COLUMNS, endpoint=False).astype(int)
    heights = np.linspace(1, -1, _WAVEFORM_ROWS)[:, np.newaxis]
    half_row = 1 / _WAVEFORM_ROWS
    low, high = np.minimum.reduceat(audio, edges), np.maximum.reduceat(audio, edges)
    pixels = np.zeros((_WAVEFORM_ROWS, _PICTURE_COLUMNS, 4), np.uint8)
    pixels[(heights >= low - half_row) & (heights <= high + half_row)] = (*_WAVEFORM_RGB, 255)
    return Image.fromarray(pixels)
