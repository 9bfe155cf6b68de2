"""Read a sound file forward in blocks, each mixed to mono at once."""

from __future__ import annotations

import numpy as np
import soundfile

from preprocessing.audio.errors import BadAudioError
from preprocessing.audio.libsndfile import DecoderInput, ForwardSoundFile
from preprocessing.options import AudioFormat

BLOCK_VALUES = 131_072  # of all channels, of which a header may declare 1,024
COMPRESSED_BLOCK_SECS = 0.25  # a corrupt block is lost as a whole, so blocks of compressed files are short
INTEGER_SUBTYPES = ("PCM", "ULAW", "ALAW")  # their samples are finite and within full scale
MAX_ABS_SAMPLE = 2.0**40  # of float files; larger values would overflow in the mean or the resampling filter
# Channels whose mean has less than this share of the first one's power cancel each other: their phase is inverted.
MAX_CANCELLED_POWER = 1e-3
UNDECLARED_FRAMES = 2**40  # libsndfile reports more frames than this for a stream of undeclared length


class MonoReader:
    """The samples of a sound file in mono, from its beginning to its end or its first corrupt block.

    Mono is the mean of the channels, or the first one with `first_channel_only`.
    """

    def __init__(
        self,
        sound_file: ForwardSoundFile,
        decoder_input: DecoderInput,
        audio_format: AudioFormat,
        first_channel_only: bool = False,
    ) -> None:
        self.sample_rate_hz: int = sound_file.samplerate
        self.has_integer_samples: bool = sound_file.subtype.startswith(INTEGER_SUBTYPES)
        self._sound_file = sound_file
        self._decoder_input = decoder_input
        self._min_secs = audio_format.min_secs
        self._max_secs = audio_format.max_secs
        self._declared_frames: int = sound_file.frames if sound_file.frames < UNDECLARED_FRAMES else 0
        self._scale = float(1 << decoder_input.header.unused_upper_bits)
        self._frames_read = 0
        self._first_channel_only = first_channel_only
        self._mono_energy = self._first_channel_energy = 0.0
        self._is_corrupt = False
        self._block_frames = BLOCK_VALUES // sound_file.channels
        if decoder_input.header.frame_bytes is None:
            self._block_frames = min(self._block_frames, int(COMPRESSED_BLOCK_SECS * self.sample_rate_hz))
        # libsndfile converts 16-bit samples to floats 8 KB at a time, which takes NumPy a fifth of the time.
        dtype = np.int16 if sound_file.subtype == "PCM_16" else np.float32
        self._block = np.empty((self._block_frames, sound_file.channels), dtype)

    def read_into(self, target: np.ndarray) -> int:
        """Fill `target`, `[frames]` float32, as far as there are frames, and return their number."""
        filled = 0
        while filled < len(target):
            count = self._read_block(target[filled : filled + self._block_frames])
            if not count:
                break
            filled += count
        return filled

    def take_cancellation(self) -> bool:
        """Return whether the channels cancel each other in the mean of what was read since the last call."""
        cancelled = self._mono_energy < MAX_CANCELLED_POWER * self._first_channel_energy
        self._mono_energy = self._first_channel_energy = 0.0
        return cancelled

    def check_declared_duration(self) -> None:
        """Raise if the file really is as long as it declares, and that is too long: it is read to find out."""
        if self._declared_frames > self._max_secs * self.sample_rate_hz:
            self.skip(int(self._max_secs * self.sample_rate_hz) + 1 - self._frames_read)

    def skip(self, frames: int) -> None:
        """Decode and drop `frames` frames; none if negative."""
        dropped = np.empty(self._block_frames if frames > 0 else 0, np.float32)
        while frames > 0 and (count := self._read_block(dropped[:frames])):
            frames -= count

    def too_short_error(self) -> BadAudioError:
        """Return the error that says why the file has less than `min_secs`."""
        duration = f"{self._frames_read / self.sample_rate_hz:.3f} s"
        is_truncated = self._decoder_input.header.is_truncated(self._decoder_input.file_bytes) or (
            self._frames_read < self._declared_frames
            and self._min_secs * self.sample_rate_hz <= self._declared_frames
        )
        if is_truncated and (self._decoder_input.reached_end or not self._is_corrupt):
            return BadAudioError("truncated", f"the file has {duration}, less than its header declares")
        if self._is_corrupt:
            return BadAudioError("corrupt", f"only {duration} can be decoded")
        if not self._frames_read:
            return BadAudioError("no_samples", "the file has a header but no samples")
        return BadAudioError("too_short", f"{duration}, less than the minimum of {self._min_secs:g} s")

    def _read_block(self, target: np.ndarray) -> int:
        if self._is_corrupt:
            return 0
        try:
            block = self._sound_file.read(out=self._block[: len(target)])
        except soundfile.SoundFileError:
            self._is_corrupt = True
            # If all declared frames were decoded, only what follows them is corrupt, such as a tag.
            is_complete = self._sound_file.is_at_declared_end()
            block = self._block[: self._declared_frames - self._frames_read if is_complete else 0]
        self._decoder_input.raise_stream_error()
        if not self.has_integer_samples:
            _limit(block)
        if self._first_channel_only:
            block = block[:, :1]
        mix_to_mono(block, target[: len(block)])
        if block.shape[1] > 1:
            self._first_channel_energy += _energy(block[:, 0])
            self._mono_energy += _energy(target[: len(block)])
        if self._scale != 1.0:
            target[: len(block)] *= self._scale
        self._frames_read += len(block)
        self._check_duration(self._frames_read)
        return len(block)

    def _check_duration(self, frames: int) -> None:
        if frames > self._max_secs * self.sample_rate_hz:
            raise too_long_error(f"at least {frames / self.sample_rate_hz:.0f} s", self._max_secs)


def too_long_error(duration: str, max_secs: float) -> BadAudioError:
    """Return the error of a recording that is longer than `max_secs`."""
    return BadAudioError("too_long", f"{duration}, more than the maximum of {max_secs:g} s")


def mix_to_mono(block: np.ndarray, target: np.ndarray) -> None:
    """Write the mean of the channels of `block` to `target`, bit for bit as `librosa.to_mono` does.

    `np.mean` loops over single frames when there are few channels: 30 s of stereo at 44,100 Hz take it 24 ms,
    this function 1 ms.

    Args:
        block: `[frames, channels]`, int16 or float32.
        target: `[frames]` float32.
    """
    channels = block.shape[1]
    # A power of two, so scaling before or after the mean gives the same result.
    scale = 1 / 32_768 if block.dtype == np.int16 else 1.0
    if channels == 1:
        np.multiply(block[:, 0], scale, out=target, dtype=np.float32)
        return
    if channels >= 8:  # from here on NumPy uses pairwise summation
        np.mean(block, axis=1, dtype=np.float32, out=target)
    else:
        np.copyto(target, block[:, 0])
        for channel in range(1, channels):
            target += block[:, channel]
        target /= channels
    if scale != 1.0:
        target *= scale


def _energy(samples: np.ndarray) -> float:
    """Sum of the squares of `[frames]`, of which integers are of 16 bits; NaN counts as 0."""
    scaled = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0)
    energy = float(np.dot(scaled, scaled))
    return energy / 2**30 if samples.dtype == np.int16 else energy


def _limit(block: np.ndarray) -> None:
    """Clip `block` in place to `MAX_ABS_SAMPLE`, and replace infinite samples with NaN."""
    if len(block) and not (block.min() >= -MAX_ABS_SAMPLE and block.max() <= MAX_ABS_SAMPLE):
        block[~np.isfinite(block)] = np.nan
        np.clip(block, -MAX_ABS_SAMPLE, MAX_ABS_SAMPLE, out=block)
