"""Prepare clips for a page: pictures of waveform and spectrogram, audio that browsers play, data URIs."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import librosa
import numpy as np
import soundfile
import soxr
from matplotlib import colormaps
from PIL import Image

BROWSER_MIN_RATE_HZ = 8_000  # browsers are not required to play lower rates
MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_COMPRESSION = 0.7  # from 0 to 1; music at 8 kHz comes to some 10 kbit/s
SPECTROGRAM_RANGE_DB = 80.0

_PICTURE_COLUMNS = 640
_WAVEFORM_ROWS, _SPECTROGRAM_ROWS = 96, 192
_WAVEFORM_RGB = (65, 105, 184)
_MEL_BANDS = 64
_MIN_WINDOW_SECS = 0.09


@dataclass(frozen=True)
class AudioClip:
    """A caption and float32 `audio` [samples] in [-1, 1]."""

    caption: str
    audio: np.ndarray
    sample_rate_hz: int

    def log_mel_db(self, max_hz: float) -> np.ndarray:
        """Compute the log-mel spectrogram up to `max_hz`, float32 [bands, about 640 frames] in dB."""
        window = 2 ** math.ceil(math.log2(_MIN_WINDOW_SECS * self.sample_rate_hz))
        hop = max(1, len(self.audio) // _PICTURE_COLUMNS)
        power = librosa.feature.melspectrogram(
            y=self.audio,
            sr=self.sample_rate_hz,
            n_fft=window,
            hop_length=hop,
            n_mels=_MEL_BANDS,
            fmax=max_hz,
        )
        return librosa.power_to_db(power, amin=1e-9, top_db=None)


@dataclass(frozen=True)
class SpectrogramScale:
    """The scale of all spectrograms of a page: the level of the brightest colour, and the highest frequency."""

    top_db: float
    max_hz: float

    @classmethod
    def of(cls, clips: list[AudioClip], max_hz: float) -> SpectrogramScale:
        """Set the brightest colour to the loudest cell of `clips`, at least one."""
        return cls(max(float(clip.log_mel_db(max_hz).max()) for clip in clips), max_hz)


@dataclass(frozen=True)
class ClipFigure:
    """A clip for the macro `clip_figure`; the URIs are `data:` URIs."""

    caption: str
    picture_uri: str
    audio_uri: str
    max_hz: float
    secs: float


def clip_figure(clip: AudioClip, scale: SpectrogramScale, lossless: bool = True) -> ClipFigure:
    """Draw and encode one clip; `lossless` as for `to_browser_audio`."""
    return ClipFigure(
        caption=clip.caption,
        picture_uri=data_uri(_clip_png(clip, scale), "image/png"),
        audio_uri=data_uri(*to_browser_audio(clip.audio, clip.sample_rate_hz, lossless)),
        max_hz=scale.max_hz,
        secs=len(clip.audio) / clip.sample_rate_hz,
    )


def data_uri(content: bytes, media_type: str) -> str:
    """Encode a file's content as a `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def to_browser_audio(audio: np.ndarray, sample_rate_hz: int, lossless: bool = True) -> tuple[bytes, str]:
    """Encode a clip, float [samples] in [-1, 1], as an audio file that every browser plays.

    Returns:
        The bytes and the media type of a 16-bit FLAC file if `lossless`, otherwise of an MP3 file of about a
        fifth of the size. Sample rates below 8,000 Hz are raised to 8,000 Hz. FLAC keeps any other rate; MP3
        uses the next higher of its standard rates, or its highest.
    """
    file = io.BytesIO()
    if lossless:
        rate_hz = max(sample_rate_hz, BROWSER_MIN_RATE_HZ)
        samples = pcm16(audio, sample_rate_hz, rate_hz)
        soundfile.write(file, samples, rate_hz, format="FLAC", subtype="PCM_16")
        return file.getvalue(), "audio/flac"
    rate_hz = min((rate for rate in MP3_RATES_HZ if rate >= sample_rate_hz), default=MP3_RATES_HZ[-1])
    soundfile.write(
        file,
        pcm16(audio, sample_rate_hz, rate_hz),
        rate_hz,
        format="MP3",
        compression_level=MP3_COMPRESSION,
        bitrate_mode="VARIABLE",
    )
    return file.getvalue(), "audio/mpeg"


def pcm16(audio: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample and round to the nearest 16-bit integer; libsndfile's own conversion from float rounds down.

    Values beyond [-1, 1] are clipped; NaN becomes silence.
    """
    samples = np.clip(np.nan_to_num(audio, nan=0.0), -1.0, 1.0)
    if from_hz != to_hz:
        samples = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return np.clip(np.rint(samples * 32_768.0), -32_768, 32_767).astype(np.int16)


def _clip_png(clip: AudioClip, scale: SpectrogramScale) -> bytes:
    """Draw a waveform above a spectrogram, without margins: time maps linearly to the full width."""
    level = 1 + (clip.log_mel_db(scale.max_hz)[::-1] - scale.top_db) / SPECTROGRAM_RANGE_DB
    spectrogram = Image.fromarray(colormaps["magma"](np.clip(level, 0, 1), bytes=True))
    size = (_PICTURE_COLUMNS, _SPECTROGRAM_ROWS)
    picture = Image.new("RGBA", (_PICTURE_COLUMNS, _WAVEFORM_ROWS + _SPECTROGRAM_ROWS))
    picture.paste(_waveform(clip.audio), (0, 0))
    picture.paste(spectrogram.resize(size, Image.Resampling.BILINEAR), (0, _WAVEFORM_ROWS))
    file = io.BytesIO()
    picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, format="PNG")
    return file.getvalue()


def _waveform(audio: np.ndarray) -> Image.Image:
    """Fill each pixel column from its lowest to its highest sample, on a transparent background."""
    edges = np.linspace(0, len(audio), _PICTURE_COLUMNS, endpoint=False).astype(int)
    heights = np.linspace(1, -1, _WAVEFORM_ROWS)[:, np.newaxis]
    half_row = 1 / _WAVEFORM_ROWS
    low, high = np.minimum.reduceat(audio, edges), np.maximum.reduceat(audio, edges)
    pixels = np.zeros((_WAVEFORM_ROWS, _PICTURE_COLUMNS, 4), np.uint8)
    pixels[(heights >= low - half_row) & (heights <= high + half_row)] = (*_WAVEFORM_RGB, 255)
    return Image.fromarray(pixels)
