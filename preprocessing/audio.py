"""Bytes of an audio file -> a mono waveform of the dataset's format; what makes a file bad."""

from __future__ import annotations

import io

import librosa
import numpy as np

from preprocessing.options import AudioFormat

# Float files may hold anything; far beyond full scale it would overflow in the mean or the filter.
FULL_SCALE_LIMIT = 1e6


class BadAudioError(Exception):
    """A file that cannot become a record: a stable `reason` code and a human `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both as arguments, so that it can be pickled between workers
        self.reason = reason
        self.detail = detail


def decode(data: bytes, audio: AudioFormat) -> tuple[np.ndarray, int]:
    """Decodes, mixes to mono, resamples (soxr HQ) and fits to the clip's length.

    Args:
        data: A whole file: WAV, AU, MP3, FLAC or OGG, recognised by its content.
        audio: The format to bring it to. Longer files are cut, shorter ones padded with zeros.

    Returns:
        The waveform, `[clip_samples]` float32 in [-1, 1], and how many of its samples came from the file.

    Raises:
        BadAudioError: `empty_file`, `not_audio`, `no_samples` or `non_finite`.
    """
    if not data:
        raise BadAudioError("empty_file", "the file has no bytes")
    try:
        channels, rate_hz = librosa.load(io.BytesIO(data), sr=None, mono=False, duration=audio.clip_secs)
    except Exception as error:  # a decoder may fail on strangers' bytes in any way; the job goes on
        # Not str(error): it has the address of the stream, and the same file would never read the same.
        what = getattr(error, "error_string", "") or type(error).__name__
        raise BadAudioError("not_audio", f"it cannot be decoded: {what}") from error
    if channels.size == 0:
        raise BadAudioError("no_samples", "the file has a header and no samples")
    if not np.isfinite(channels).all():
        raise BadAudioError("non_finite", "NaN or infinite samples")
    channels = np.clip(channels, -FULL_SCALE_LIMIT, FULL_SCALE_LIMIT)
    mono = librosa.to_mono(channels)
    waveform = librosa.resample(mono, orig_sr=rate_hz, target_sr=audio.sample_rate_hz, res_type="soxr_hq")
    valid_samples = min(len(waveform), audio.clip_samples)
    clip = np.zeros(audio.clip_samples, np.float32)
    # A band-limited resampler overshoots at clipped peaks; the record promises [-1, 1].
    clip[:valid_samples] = np.clip(waveform[:valid_samples], -1.0, 1.0)
    return clip, valid_samples
