"""Decode an audio file to clips: bytes -> header -> decoded blocks -> mono -> windows -> resampled clips.

Files are untrusted: they may be truncated, mislabelled, corrupt or malicious. So a file's type follows from
its content alone, it is decoded forward in blocks, and the samples before a corrupt block are kept. Time
and memory are bounded by the clip's length and `max_secs`, whatever a file holds or declares.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import soxr

from preprocessing.audio.decoders import check_sample_rate, open_decoders
from preprocessing.audio.errors import BadAudioError
from preprocessing.audio.float_level import FloatLevel
from preprocessing.audio.headers.probe import Recording, read_recordings
from preprocessing.audio.mono_reader import MonoReader, too_long_error
from preprocessing.options import AudioFormat

SILENT_PEAK = 0.5 / 32_768  # half a 16-bit step: a clip below it would be all zeros in a 16-bit file
MAX_PEAK = 2.0  # more is no overshoot of a resampler or a codec
FEW_SAMPLES = 1_000


class DecodedClip(NamedTuple):
    """A clip of a recording in the dataset's format."""

    start_secs: float  # within the recording
    waveform: np.ndarray  # [clip_samples] float32 in [-1, 1], zero from valid_samples on
    valid_samples: int


def _ignore(loss: str) -> None:
    pass


def decode_clips(
    stream: BinaryIO, audio_format: AudioFormat, report_loss: Callable[[str], None] = _ignore
) -> Iterator[DecodedClip]:
    """Decode a file, mix it to mono, cut it into clips and resample each (soxr HQ).

    Args:
        stream: A whole file, seekable. It is not closed.
        audio_format: The format of the clips. Without `hop_secs` the only clip is the first `clip_secs`; with
            it, a clip begins every `hop_secs`. The last one may be shorter, down to `min_secs`; it is left
            out if the clip before it already contains it. Silent clips are left out, too.
        report_loss: Is called with a description of each part of the file that cannot be decoded.

    Yields:
        The clips in order. For well-formed PCM each equals what `librosa.load` returns for that offset and
        duration. An error invalidates the clips yielded before it: the recording as a whole is bad.

    Raises:
        BadAudioError: The file cannot become a record.
        Exception: Whatever `stream` raises when it is read, unchanged.
    """
    file_bytes = stream.seek(0, 2)
    if not file_bytes:
        raise BadAudioError("empty_file", "the file is empty")
    recordings = read_recordings(stream)
    if recordings:
        _check_header(recordings[0], audio_format)
    all_silent = True
    for start_secs, window, rate_hz in _decode_windows(stream, recordings, audio_format, report_loss):
        if _is_constant(window):
            continue
        waveform, valid_samples = _resample(window, rate_hz, audio_format)
        peak = max(waveform.max(), -waveform.min())
        if peak > MAX_PEAK:
            report_loss(f"samples exceed full scale by {20 * math.log10(peak):.0f} dB and are clipped")
        if peak > 1.0:  # the band-limited resampler overshoots at clipped peaks
            np.clip(waveform, -1.0, 1.0, out=waveform)
        if peak >= SILENT_PEAK:
            all_silent = False
            yield DecodedClip(start_secs, waveform, valid_samples)
    if all_silent:
        raise BadAudioError("silent", "every clip is silent")


def _is_constant(window: np.ndarray) -> bool:
    """Return whether a window has no more than an offset, which is no sound; a single sample is no constant."""
    if len(window) < 2:
        return False
    parts = (window[:: len(window) // FEW_SAMPLES + 1], window)  # the first one is enough for music
    return all(np.ptp(part) < 2 * SILENT_PEAK for part in parts)


def _decode_windows(
    stream: BinaryIO,
    recordings: list[Recording],
    audio_format: AudioFormat,
    report_loss: Callable[[str], None],
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Yield each clip's start in seconds, its `[frames]` at full scale 1, and the file's sample rate."""
    first_channel_only, full_scale = False, 0.0
    while True:
        with contextlib.closing(open_decoders(stream, recordings, report_loss)) as decoders:
            reader = MonoReader(decoders, audio_format, first_channel_only)
            if not full_scale and reader.may_have_other_scale:
                full_scale = _measure_full_scale(reader, audio_format)
                continue  # from the beginning
            has_sound = False
            for start_secs, window in _read_windows(reader, audio_format):
                if reader.take_cancellation():
                    if not has_sound:
                        first_channel_only = True
                        break  # begin again with the first channel
                    report_loss(f"the clip at {start_secs:g} s is left out: its channels cancel each other")
                    continue
                has_sound = has_sound or not _is_constant(window)
                if full_scale > 1.0:
                    window = window * np.float32(1 / full_scale)
                yield start_secs, window, reader.sample_rate_hz
            else:
                return


def _measure_full_scale(reader: MonoReader, audio_format: AudioFormat) -> float:
    """Read the recording, or the part of it that becomes the only clip, and return the full scale of its samples."""
    level = FloatLevel()
    rate_hz = reader.sample_rate_hz
    frames = int(audio_format.clip_secs * rate_hz) if audio_format.hop_secs is None else sys.maxsize
    part = np.empty(rate_hz, np.float32)
    while frames > 0 and (count := reader.read_into(part[: min(frames, rate_hz)])):
        level.add(part[:count])
        frames -= count
    return level.full_scale()


def _check_header(recording: Recording, audio_format: AudioFormat) -> None:
    """Raise if the header alone shows that the file is bad."""
    header, end = recording.header, recording.end
    if header.missing_chunk:
        reason = "corrupt" if header.channels is None else "no_samples"
        detail = f"{header.container} without a {header.missing_chunk!r} chunk"
        raise BadAudioError("truncated" if header.is_truncated(end) else reason, detail)
    if header.channels == 0:
        raise BadAudioError("zero_channels", f"{header.container} declares 0 channels")
    if header.sample_rate_hz is None:
        return
    check_sample_rate(header.sample_rate_hz)
    if header.frame_bytes and header.data_offset is not None:
        secs = header.available_data_bytes(end) // header.frame_bytes / header.sample_rate_hz
        if secs > audio_format.max_secs:
            raise too_long_error(f"{secs:.0f} s", audio_format.max_secs)


def _read_windows(reader: MonoReader, audio_format: AudioFormat) -> Iterator[tuple[float, np.ndarray]]:
    """Yield each clip's start in seconds and its `[frames]` at the file's rate; the next overwrites them."""
    rate_hz = reader.sample_rate_hz
    min_frames = max(1, int(audio_format.min_secs * rate_hz))
    window = np.empty(max(1, int(audio_format.clip_secs * rate_hz)), np.float32)
    start = filled = 0
    for index in itertools.count():
        start_secs = index * (audio_format.hop_secs or 0.0)
        hop = int(start_secs * rate_hz) - start
        start += hop
        overlap = max(filled - hop, 0)
        window[:overlap] = window[filled - overlap : filled]
        reader.skip(hop - filled)
        added = reader.read_into(window[overlap:])
        filled = overlap + added
        if index == 0 and filled < min_frames:
            raise reader.too_short_error()
        if index > 0 and (not added or filled < min_frames):
            return
        if not reader.has_integer_samples and not np.isfinite(window[:filled]).all():
            raise BadAudioError("non_finite", f"NaN or infinite samples in the clip at {start_secs:g} s")
        if audio_format.hop_secs is None:
            reader.check_declared_duration()
            yield start_secs, window[:filled]
            return
        yield start_secs, window[:filled]


def _resample(window: np.ndarray, rate_hz: int, audio_format: AudioFormat) -> tuple[np.ndarray, int]:
    """Resample `[frames]` to `[clip_samples]`, zero-padded; also return how many samples are not padding."""
    resampled = soxr.resample(window, rate_hz, audio_format.sample_rate_hz, quality="HQ")
    # librosa's count, to which it cuts or zero-pads the result of soxr.
    librosa_samples = math.ceil(len(window) * (audio_format.sample_rate_hz / rate_hz))
    valid_samples = min(librosa_samples, audio_format.clip_samples)
    waveform = np.zeros(audio_format.clip_samples, np.float32)
    copied = min(len(resampled), valid_samples)
    waveform[:copied] = resampled[:copied]
    return waveform, valid_samples
