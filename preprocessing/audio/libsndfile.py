"""libsndfile as it can be used on untrusted files: how it is driven, and what its errors mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import soundfile

from preprocessing.audio.decoder import MIN_DECODED_SHARE
from preprocessing.audio.decoder_input import DecoderInput
from preprocessing.audio.errors import BadAudioError

INTEGER_SUBTYPES = ("PCM", "ULAW", "ALAW")  # their samples are finite and within full scale
UNDECLARED_FRAMES = 2**40  # libsndfile reports more frames than this for a stream of undeclared length
MAX_TAG_BYTES = 1 << 16  # what follows the last sample and cannot be decoded is a tag, if it is not larger


class LibsndfileDecoder:
    """A `preprocessing.audio.decoder.Decoder`."""

    def __init__(self, decoder_input: DecoderInput) -> None:
        """Open a file.

        Raises:
            BadAudioError: libsndfile cannot read it.
        """
        self._input = decoder_input
        self._file = _open(decoder_input)
        header = decoder_input.header
        self.sample_rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        # libsndfile converts 16-bit samples to floats 8 KB at a time, which takes NumPy a fifth of the time.
        self.dtype = np.dtype(np.int16 if self._file.subtype == "PCM_16" else np.float32)
        self.scale = float(1 << header.unused_upper_bits)
        self.has_integer_samples: bool = self._file.subtype.startswith(INTEGER_SUBTYPES)
        self.is_compressed = header.frame_bytes is None
        frames = self._file.frames if self._file.frames < UNDECLARED_FRAMES else 0
        self.declared_frames: int = frames or header.frames or 0
        self._promised_frames = frames if self.is_compressed else max(frames, header.frames or 0)
        self.declares_more = header.is_truncated(decoder_input.file_bytes)
        self.loss = ""
        self._frames_read = 0

    def read(self, block: np.ndarray) -> int:
        """Fill `block`, `[frames, channels]` of `dtype`, and return how many frames there were."""
        if self._file.is_corrupt:
            return 0
        count = len(self._file.read(out=block))
        self._input.raise_stream_error()
        self._frames_read += count
        if self._file.is_corrupt and not self._has_all():
            self.loss = f"decoding fails after {self._frames_read / self.sample_rate_hz:.3f} s"
        elif count < len(block) and self._frames_read < MIN_DECODED_SHARE * self._promised_frames:
            read_secs, secs = (
                frames / self.sample_rate_hz for frames in (self._frames_read, self._promised_frames)
            )
            self.loss = f"the file has {read_secs:.3f} of the {secs:.3f} s that it declares"
        return count

    def reached_end_of_file(self) -> bool:
        """Return whether the decoder has asked for more bytes than there are."""
        return self._input.reached_end

    def close(self) -> None:
        """Free the decoder."""
        self._file.close()

    def _has_all(self) -> bool:
        """Return whether only what follows the samples is corrupt, such as a tag."""
        if self.declared_frames:
            return self._frames_read >= self.declared_frames
        return self._frames_read > 0 and self._input.remaining_bytes < MAX_TAG_BYTES


class _ForwardSoundFile(soundfile.SoundFile):
    """A sound file that is only read forward, up to its first corrupt block.

    `soundfile.SoundFile` seeks to its position after every read, which is slow in compressed files and impossible in
    corrupt ones, and it drops what it has decoded before an error.
    """

    is_corrupt = False

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek."""
        return False

    def _cdata_io(self, action: str, data: Any, ctype: str, frames: int) -> int:
        count: int = getattr(soundfile._snd, f"sf_{action}f_{ctype}")(self._file, data, frames)
        self.is_corrupt = self._errorcode != 0
        return count


def _open(decoder_input: DecoderInput) -> _ForwardSoundFile:
    try:
        sound_file = _ForwardSoundFile(decoder_input)
    except Exception as error:  # a decoder may fail on untrusted bytes in any way
        decoder_input.raise_stream_error()
        header = decoder_input.header
        if not header.is_certain:
            detail = f"the first bytes look like {header.container}, but the rest does not"
            raise BadAudioError("not_audio", detail) from error
        if header.is_truncated(decoder_input.file_bytes):
            detail = f"the header declares more than the file's {decoder_input.file_bytes} bytes"
            raise BadAudioError("truncated", detail) from error
        # Not str(error): it contains the stream's address, and the same file must always give the same text.
        cause = getattr(error, "error_string", "") or type(error).__name__
        if header.container == "MP3":
            cause = "no frame"  # libsndfile claims that the file does not exist
        detail = f"{header.container} that cannot be decoded: {cause.strip(' .')}"
        raise BadAudioError("corrupt", detail) from error
    decoder_input.raise_stream_error()
    decoder_input.reached_end = False
    return sound_file
