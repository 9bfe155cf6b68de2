"""An audio file -> mono waveforms of the dataset's format; what makes a file bad.

Strangers' files are cut, mislabelled, broken, or made to break things. So a file is known by its content
alone, is decoded forward in blocks, each mixed to mono at once, and keeps what came before the place where it
breaks. What it costs is bounded by the clip's length and `max_secs`, whatever it holds or claims to hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from preprocessing.audio.header import Header
from preprocessing.audio.libsndfile import Sound, Source, mix
from preprocessing.audio.probe import read_header
from preprocessing.options import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, AudioFormat

# Float files may hold anything; far beyond full scale it would overflow in the mean or the filter.
FULL_SCALE_LIMIT = 1e6
SILENT_PEAK = 0.5 / 32_768  # half a step of 16 bits: written as such a file, the clip would be zeros only
BLOCK_VALUES = 131_072  # of all channels, of which a header may claim 1,024
CODEC_BLOCK_SECS = 0.25  # of compressed files: a block that breaks is lost as a whole
EXACT_SUBTYPES = ("PCM", "ULAW", "ALAW")  # integers: finite, and within full scale
ENDLESS = 2**40  # libsndfile counts more frames than this in a stream without a length


class BadAudioError(Exception):
    """A file that cannot become a record: a stable `reason`, one of `REASONS`, and a human `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both as arguments, so that it can be pickled between workers
        self.reason = reason
        self.detail = detail


class Segment(NamedTuple):
    """A clip of a recording."""

    start_secs: float  # where in the recording it begins
    waveform: np.ndarray  # [clip_samples] float32 in [-1, 1], zero from valid_samples on
    valid_samples: int


def segments(stream: BinaryIO, audio: AudioFormat) -> Iterator[Segment]:
    """Decodes a file, mixes it to mono, resamples it (soxr HQ) and cuts it into clips.

    Args:
        stream: A whole file, seekable; its name means nothing. It is not closed.
        audio: The format to bring it to. Without `hop_secs` the first `clip_secs` are the one clip; with it a
            clip begins every `hop_secs`. The last may be shorter, down to `min_secs`, unless the clip before
            it already holds all of it. Of several clips, silent ones are left out.

    Yields:
        The clips in their order. Of well-formed PCM each is what `librosa.load` gives for that offset and
        duration. Those before an error are void: it says that the recording as a whole is bad.

    Raises:
        BadAudioError: With a reason of `REASONS`.
        Exception: What `stream` raises where it cannot be read, as it is.
    """
    size = stream.seek(0, 2)
    if not size:
        raise BadAudioError("empty_file", "the file has no bytes")
    header = read_header(stream)
    if header is None:
        raise BadAudioError("not_audio", "its first bytes are those of no audio format")
    _check_promises(header, size, audio)
    source = Source(stream, size, header)
    given = 0
    with _open(source) as sound:
        for start_secs, window in _windows(_Recording(sound, source, audio), audio):
            clip, valid_samples = _fitted(window, sound.samplerate, audio)
            peak = max(clip.max(), -clip.min())
            if peak > 1.0:  # a band-limited resampler overshoots at clipped peaks; a record promises [-1, 1]
                np.clip(clip, -1.0, 1.0, out=clip)
            if peak >= SILENT_PEAK:
                given += 1
                yield Segment(start_secs, clip, valid_samples)
    if not given:
        raise BadAudioError("silent", "what would be taken of it is silence")


def _fitted(window: np.ndarray, rate_hz: int, audio: AudioFormat) -> tuple[np.ndarray, int]:
    """`[frames]` at the file's rate as a clip, and how many of its samples came from the file."""
    waveform = soxr.resample(window, rate_hz, audio.sample_rate_hz, quality="HQ")
    # As librosa counts them, which cuts what soxr has beyond, or fills up with zeros what it lacks.
    counted = math.ceil(len(window) * (audio.sample_rate_hz / rate_hz))
    valid_samples = min(counted, audio.clip_samples)
    clip = np.zeros(audio.clip_samples, np.float32)
    there = min(len(waveform), valid_samples)
    clip[:there] = waveform[:there]
    return clip, valid_samples


def _check_promises(header: Header, size: int, audio: AudioFormat) -> None:
    """Raises where the header alone tells that the file is bad."""
    what = f"{header.container} with {header.codec}" if header.codec else header.container
    if not header.decodable:
        raise BadAudioError("unsupported_codec", f"{what} cannot be decoded here")
    if header.missing:
        reason = "damaged" if header.channels is None else "no_samples"
        detail = f"{header.container} without a chunk {header.missing!r}"
        raise BadAudioError("truncated" if _is_cut(header, size) else reason, detail)
    if header.channels == 0:
        raise BadAudioError("zero_channels", f"{what} and 0 channels")
    if header.rate_hz is None:
        return
    _check_rate(header.rate_hz)
    if header.frames is None or header.frames <= audio.max_secs * header.rate_hz:
        return
    promise = f"its header promises {header.frames / header.rate_hz:.0f} s"
    if header.frame_bytes and header.data_at is not None:
        there = max(size - header.data_at, 0)
        if header.frames * header.frame_bytes > there:
            raise BadAudioError("false_header", f"{promise}, and there are {there} bytes of samples")
    raise BadAudioError("too_long", f"{promise}, more than {audio.max_secs:g} s")


def _is_cut(header: Header, size: int) -> bool:
    """Whether the header promises more bytes than there are."""
    data_end = (header.data_at or 0) + (header.data_bytes or 0)
    return max(data_end, header.file_bytes or 0) > size


def _check_rate(rate_hz: int) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise BadAudioError("absurd_rate", f"a sample rate of {rate_hz} Hz")


def _open(source: Source) -> Sound:
    try:
        sound = Sound(source)
    except Exception as error:  # a decoder may fail on strangers' bytes in any way; the job goes on
        source.check()
        header = source.header
        # Not str(error): it has the address of the stream, and the same file would never read the same.
        what = getattr(error, "error_string", "") or type(error).__name__
        if not header.sure:
            raise BadAudioError("not_audio", f"it begins like {header.container} and is none") from error
        if _is_cut(header, source.file_bytes):
            promise = f"its header promises more than {source.file_bytes} bytes"
            raise BadAudioError("truncated", promise) from error
        if header.container == "MP3":
            what = "no frame"  # libsndfile says that the file does not exist
        detail = f"{header.container} that cannot be decoded: {what.strip(' .')}"
        raise BadAudioError("damaged", detail) from error
    source.check()
    source.exhausted = False
    return sound


def _windows(recording: _Recording, audio: AudioFormat) -> Iterator[tuple[float, np.ndarray]]:
    """Where in seconds each clip begins, and its `[frames]` at the file's rate; the next overwrites them."""
    rate_hz = recording.rate_hz
    fewest = max(1, int(audio.min_secs * rate_hz))
    window = np.empty(max(1, int(audio.clip_secs * rate_hz)), np.float32)
    start = filled = 0
    for index in itertools.count():
        start_secs = index * (audio.hop_secs or 0.0)
        step = int(start_secs * rate_hz) - start
        start += step
        kept = max(filled - step, 0)
        window[:kept] = window[filled - kept : filled]
        recording.skip(step - filled)
        added = recording.read_into(window[kept:])
        filled = kept + added
        if index == 0 and filled < fewest:
            raise recording.too_little()
        if index > 0 and (not added or filled < fewest):
            return
        if not recording.exact and not np.isfinite(window[:filled]).all():
            raise BadAudioError("non_finite", f"NaN or infinite samples in the clip at {start_secs:g} s")
        yield start_secs, window[:filled]
        if audio.hop_secs is None:
            return


class _Recording:
    """The samples of a sound file as mono, forward. It ends where the file ends or breaks."""

    def __init__(self, sound: Sound, source: Source, audio: AudioFormat) -> None:
        self.rate_hz = sound.samplerate
        _check_rate(self.rate_hz)
        self.exact = sound.subtype.startswith(EXACT_SUBTYPES)
        self._sound = sound
        self._source = source
        self._audio = audio
        self._promised = sound.frames if sound.frames < ENDLESS else 0
        if self._promised > audio.max_secs * self.rate_hz:
            raise self._too_long(self._promised)
        self._frames = 0
        self._broken = False
        self._block_frames = BLOCK_VALUES // sound.channels
        if source.header.frame_bytes is None:
            self._block_frames = min(self._block_frames, int(CODEC_BLOCK_SECS * self.rate_hz))
        # libsndfile makes floats of 16 bits, the usual ones, in pieces of 8 KB: five times the work of NumPy.
        dtype = np.int16 if sound.subtype == "PCM_16" else np.float32
        self._block = np.empty((self._block_frames, sound.channels), dtype)

    def read_into(self, target: np.ndarray) -> int:
        """Fills `[frames]` float32 as far as there are frames, and says how far."""
        filled = 0
        while filled < len(target):
            count = self._read_block(target[filled : filled + self._block_frames])
            if not count:
                break
            filled += count
        return filled

    def skip(self, frames: int) -> None:
        """Decodes what lies between two clips and drops it."""
        dropped = np.empty(self._block_frames if frames > 0 else 0, np.float32)
        while frames > 0 and (count := self._read_block(dropped[:frames])):
            frames -= count

    def too_little(self) -> BadAudioError:
        """Why there is less than `min_secs`."""
        there = f"{self._frames / self.rate_hz:.3f} s are there"
        fewest = self._audio.min_secs * self.rate_hz
        is_cut = _is_cut(self._source.header, self._source.file_bytes) or (
            self._frames < self._promised and fewest <= self._promised
        )
        if is_cut and (self._source.exhausted or not self._broken):
            return BadAudioError("truncated", f"{there}, and its header promises more")
        if self._broken:
            return BadAudioError("damaged", f"{there} before it breaks")
        if not self._frames:
            return BadAudioError("no_samples", "the file has a header and no samples")
        return BadAudioError("too_short", f"{there}, less than {self._audio.min_secs:g} s")

    def _read_block(self, target: np.ndarray) -> int:
        if self._broken:
            return 0
        try:
            block = self._sound.read(out=self._block[: len(target)])
        except soundfile.SoundFileError:
            self._broken = True
            # Where all that was promised has come, only what follows it is bad, say a tag.
            block = self._block[: self._promised - self._frames if self._sound.is_read() else 0]
        self._source.check()
        if not self.exact:
            _tame(block)
        mix(block, target[: len(block)])
        self._frames += len(block)
        if self._frames > self._audio.max_secs * self.rate_hz:
            raise self._too_long(self._frames)
        return len(block)

    def _too_long(self, frames: int) -> BadAudioError:
        there = f"at least {frames / self.rate_hz:.0f} s"
        return BadAudioError("too_long", f"{there}, more than {self._audio.max_secs:g} s")


def _tame(block: np.ndarray) -> None:
    """Brings what is far beyond full scale to `FULL_SCALE_LIMIT`, and makes what is infinite NaN."""
    if len(block) and not (block.min() >= -FULL_SCALE_LIMIT and block.max() <= FULL_SCALE_LIMIT):
        block[~np.isfinite(block)] = np.nan
        np.clip(block, -FULL_SCALE_LIMIT, FULL_SCALE_LIMIT, out=block)
