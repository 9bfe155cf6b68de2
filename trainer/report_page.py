"""The pieces of a run's report as HTML: facts, figures, and clips to see and hear.

Every function returns finished markup; whatever comes from a file or a name is escaped here.
"""

import base64
import io
import math
from dataclasses import dataclass
from html import escape

import librosa
import numpy as np
from matplotlib import colormaps
from PIL import Image

from trainer.render import SPECTROGRAM_RANGE_DB, to_browser_audio
from trainer.report_chart import number

_PICTURE_COLUMNS = 640
_WAVEFORM_ROWS, _MELS, _MEL_ROWS = 96, 64, 192
_WAVEFORM_RGB = (65, 105, 184)
_FRAME_SECS = 0.09  # of the transform, at the least


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


def figure_table(epoch: dict[str, float]) -> str:
    """Set the last epoch's figures as a table, train beside test."""
    rows = [
        ("ELBO", "nats per clip", "train_elbo", "test_elbo"),
        ("Log-likelihood", "nats per clip", "train_log_likelihood", "test_log_likelihood"),
        ("KL divergence", "nats per clip", "train_kl", "test_kl"),
        ("Signal-to-noise", "dB", "train_snr_db", "test_snr_db"),
    ]
    body = "".join(
        f"<tr><th>{name} <small>{unit}</small></th><td>{number(epoch.get(train))}</td>"
        f"<td>{number(epoch.get(test))}</td></tr>"
        for name, unit, train, test in rows
    )
    head = "<thead><tr><th></th><th>train</th><th>test</th></tr></thead>"
    return f'<div class="card"><table>{head}<tbody>{body}</tbody></table></div>'


def note_card(note: str) -> str:
    """Set a model's own caveat beside its figures; no note, no card."""
    if not note:
        return ""
    return f'<aside class="card note"><strong>Caveat</strong>{escape(note)}</aside>'


def clip_figure(sound: Sound, top_db: float, max_hz: float) -> str:
    """Show one clip: caption, picture and player.

    Args:
        sound: the clip.
        top_db: the dB of the brightest colour, one for every clip of a page.
        max_hz: the top of the picture's frequency axis.
    """
    caption = escape(sound.caption)
    media = data_uri(*to_browser_audio(sound.audio, sound.sample_rate_hz))
    picture = data_uri(_clip_png(sound, top_db, max_hz), "image/png")
    secs = len(sound.audio) / sound.sample_rate_hz
    return (
        f'<figure class="clip"><figcaption>{caption}</figcaption>'
        f'<div class="picture"><img src="{picture}" alt="Waveform and spectrogram of {caption}">'
        f'<span class="top">{max_hz:,.0f} Hz</span><span class="bottom">0 Hz</span><i></i></div>'
        f'<div class="times"><span>0 s</span><span>{secs:.0f} s</span></div>'
        f'<audio controls preload="metadata" src="{media}"></audio></figure>'
    )


def data_uri(content: bytes, media_type: str) -> str:
    """Write a file's content as a link that needs no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


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
