"""Read the decoders of a file in blocks, each mixed to mono at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr

from preprocessing.audio.decoder import Decoder
from preprocessing.audio.errors import BadAudioError
from preprocessing.options import AudioFormat

BLOCK_VALUES = 131_072  # of all channels, of which a header may declare 1,024
COMPRESSED_BLOCK_SECS = (
    0.25  # a hostile file may expand a few bytes to hours, so blocks of compressed files are short
)
MAX_ABS_SAMPLE = 2.0**40  # of float files; larger values would overflow in the mean or the resampling filter
# Channels whose mean has less than this share of the first one's power cancel each other: their phase is inverted.
MAX_CANCELLED_POWER = 1e-3


class MonoReader:
    """The samples of a file in mono, from its beginning to its end, or as far as it can be decoded.

    Mono is the mean of the channels, or the first one with `first_channel_only`. Parts of the file that have another
    sample rate are resampled to the first one's.
    """

    def __init__(
        self, decoders: Iterator[Decoder], audio_format: AudioFormat, first_channel_only: bool = False
    ) -> None:
        """Open the first decoder.

        Raises:
            BadAudioError: It cannot be opened.
        """
        self._decoders = decoders
        self._min_secs = audio_format.min_secs
        self._max_secs = audio_format.max_secs
        self._first_channel_only = first_channel_only
        self._mono_energy = self._first_channel_energy = 0.0
        self._frames_read = self._declared_frames = 0
        self._declares_more = self._is_corrupt = self._has_ended = False
        self._resampled = np.empty(0, np.float32)  # at the first part's rate, not yet read
        self._decoder = next(decoders)
        self.sample_rate_hz = self._decoder.sample_rate_hz
        self.has_integer_samples = True
        self._begin_part(self._decoder)
        # Lossy codecs have the scale 1.
        self.may_have_other_scale = not self.has_integer_samples and not self._decoder.is_compressed

    def read_into(self, target: np.ndarray) -> int:
        """Fill `target`, `[frames]` float32, as far as there are frames, and return their number."""
        filled = 0
        while filled < len(target) and (count := self._read_some(target[filled:])):
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
        while frames > 0 and (count := self._read_some(dropped[:frames])):
            frames -= count

    def too_short_error(self) -> BadAudioError:
        """Return the error that says why the file has less than `min_secs`."""
        duration = f"{self._frames_read / self.sample_rate_hz:.3f} s"
        is_truncated = self._declares_more or (
            self._frames_read < self._declared_frames
            and self._min_secs * self.sample_rate_hz <= self._declared_frames
        )
        if is_truncated and (self._decoder.reached_end_of_file() or not self._is_corrupt):
            return BadAudioError("truncated", f"the file has {duration}, less than its header declares")
        if self._is_corrupt:
            return BadAudioError("corrupt", f"only {duration} can be decoded")
        if not self._frames_read:
            return BadAudioError("no_samples", "the file has a header but no samples")
        return BadAudioError("too_short", f"{duration}, less than the minimum of {self._min_secs:g} s")

    def _begin_part(self, decoder: Decoder) -> None:
        rate_hz = decoder.sample_rate_hz
        self._decoder = decoder
        self._declared_frames += decoder.declared_frames * self.sample_rate_hz // rate_hz
        self._declares_more |= decoder.declares_more
        self.has_integer_samples &= decoder.has_integer_samples
        self._resampler: soxr.ResampleStream | None = None
        self._is_part_resampled = False
        if rate_hz != self.sample_rate_hz:
            self._resampler = soxr.ResampleStream(rate_hz, self.sample_rate_hz, 1, quality="HQ")
        self._block_frames = BLOCK_VALUES // decoder.channels
        if decoder.is_compressed:
            self._block_frames = min(self._block_frames, max(int(COMPRESSED_BLOCK_SECS * rate_hz), 1))
        self._block = np.empty((self._block_frames, decoder.channels), decoder.dtype)

    def _next_part(self) -> None:
        """Go on with the next decoder, if there is one."""
        self._is_corrupt |= bool(self._decoder.loss)
        decoder = next(self._decoders, None)
        if decoder is None:
            self._has_ended = True
        else:
            self._begin_part(decoder)

    def _read_some(self, target: np.ndarray) -> int:
        """Fill the beginning of `target`, which is not empty, and return the number of frames; 0 at the end."""
        count = 0
        while not count:
            if self._has_ended:
                return 0
            if self._resampler is None:
                count = self._decode_block(target[: self._block_frames])
            else:
                count = self._read_resampled(target, self._resampler)
            if not count:
                self._next_part()
        self._frames_read += count
        if self._frames_read > self._max_secs * self.sample_rate_hz:
            raise too_long_error(f"at least {self._frames_read / self.sample_rate_hz:.0f} s", self._max_secs)
        return count

    def _read_resampled(self, target: np.ndarray, resampler: soxr.ResampleStream) -> int:
        while not len(self._resampled) and not self._is_part_resampled:
            block = np.empty(self._block_frames, np.float32)
            count = self._decode_block(block)
            self._is_part_resampled = not count
            self._resampled = resampler.resample_chunk(block[:count], last=self._is_part_resampled)
        count = min(len(target), len(self._resampled))
        target[:count], self._resampled = self._resampled[:count], self._resampled[count:]
        return count

    def _decode_block(self, target: np.ndarray) -> int:
        """Fill the beginning of `target`, at most a block, at the part's own sample rate."""
        block = self._block[: self._decoder.read(self._block[: len(target)])]
        if not self._decoder.has_integer_samples:
            _limit(block)
        if self._first_channel_only:
            block = block[:, :1]
        target = target[: len(block)]
        mix_to_mono(block, target)
        if block.shape[1] > 1:
            self._first_channel_energy += _energy(block[:, 0])
            self._mono_energy += _energy(target)
        if self._decoder.scale != 1.0:
            target *= self._decoder.scale
        return len(block)


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
