"""FFmpeg, through PyAV, as it can be used on untrusted files: for what libsndfile does not read.

FFmpeg opens whatever a file names, and takes random bytes for audio. So it may use only demuxers of music, read only
the file's own bytes, and has to decode the first packets without an error where a format has no magic number. PyAV is
imported only when a file needs it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from preprocessing.audio.decoder import MIN_DECODED_SHARE
from preprocessing.audio.decoder_input import DecoderInput
from preprocessing.audio.errors import BadAudioError
from preprocessing.audio.ffmpeg_container import open_container

WITHOUT_MAGIC = frozenset(
    ("aac", "ac3", "dts", "dtshd", "eac3", "loas", "mlp", "mp3", "mpeg", "mpegts", "spdif", "truehd")
)
FLAWLESS_PACKETS = 8  # with which such a file has to begin
MAX_BARREN_PACKETS = 100  # in a row that give no samples: damaged, or made to waste time
ATTACHED_PICTURE = 0x400  # of a stream's disposition
MAX_PARTS = 1_000  # each in a format of its own
INTEGER_BITS = {"u8": 8, "s16": 16, "s32": 32, "s64": 64}
SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
ENCRYPTED_TAGS = ("drms", "drmi", "enca")  # of a codec in MP4
# ASF Specification 01.20.03, sections 3.14 and 3.15, and the later DRM header: their identifiers in a file's header.
ASF_ENCRYPTION = tuple(
    bytes.fromhex(guid)
    for guid in (
        "fbb3112223bdd211b4b700a0c955fc6e",
        "14e68a292226174cb935dae07ee9289c",
        "5a8af8ef19b64346a6b56e8c4efdbb6f",
    )
)
INSPECTED_BYTES = 1 << 16


class _Format(NamedTuple):
    sample_rate_hz: int
    channels: int
    is_int16: bool
    is_integer: bool


class FFmpegDecoder:
    """A `preprocessing.audio.decoder.Decoder` of the samples up to the next change of their format."""

    scale = 1.0
    is_compressed = True
    declared_frames = 0
    declares_more = False

    def __init__(self, frames: _Frames, sample_format: _Format) -> None:
        self._frames = frames
        self._format = sample_format
        self.sample_rate_hz = sample_format.sample_rate_hz
        self.channels = sample_format.channels
        self.dtype = np.dtype(np.int16 if sample_format.is_int16 else np.float32)
        self.has_integer_samples = sample_format.is_integer
        self.loss = ""

    def read(self, block: np.ndarray) -> int:
        """Fill `block`, `[frames, channels]` of `dtype`, and return how many frames there were."""
        filled = 0
        while filled < len(block) and self._frames.peek() == self._format:
            samples = self._frames.take(len(block) - filled)
            block[filled : filled + len(samples)] = samples
            filled += len(samples)
        self.loss = self._frames.loss
        return filled

    def reached_end_of_file(self) -> bool:
        """Return whether the decoder has asked for more bytes than there are."""
        return self._frames.decoder_input.reached_end

    def close(self) -> None:
        """Do nothing: `open_ffmpeg` frees what its decoders share."""


def open_ffmpeg(decoder_input: DecoderInput) -> Iterator[FFmpegDecoder]:
    """Yield a decoder for each part of a file's first or main audio stream that has one format.

    Each has to be read to its end before the next.

    Raises:
        BadAudioError: FFmpeg finds no sound that it can decode, or only encrypted sound.
    """
    frames = _Frames(decoder_input)
    try:
        for _ in range(MAX_PARTS):
            sample_format = frames.peek()
            if sample_format is None:
                return
            yield FFmpegDecoder(frames, sample_format)
    finally:
        frames.close()


class _Frames:
    """The decoded samples of a file, frame by frame."""

    def __init__(self, decoder_input: DecoderInput) -> None:
        self.decoder_input = decoder_input
        self.loss = ""
        self._container = open_container(decoder_input)
        try:
            self._stream = self._audio_stream()
            self._blocks = self._decode()
            self._block: np.ndarray | None = None
            self._format: _Format | None = None
            if self.peek() is None:
                raise BadAudioError("corrupt", f"{self._name} of which no packet can be decoded")
        except BadAudioError:
            self.close()
            raise
        except Exception as error:  # PyAV does not expect every value that a file can have
            self.close()
            decoder_input.raise_stream_error()
            raise BadAudioError("corrupt", f"{self._name} that cannot be decoded") from error

    def peek(self) -> _Format | None:
        """Return the format of the next samples, or None at the end."""
        if self._block is None or not len(self._block):
            self._format, self._block = next(self._blocks, (None, None))
        return self._format

    def take(self, count: int) -> np.ndarray:
        """Return the next `count` samples or fewer, after `peek`: `[frames, channels]`, int16 or float32."""
        assert self._block is not None
        taken, self._block = self._block[:count], self._block[count:]
        return taken

    def close(self) -> None:
        """Free the decoder."""
        self._container.close()

    @property
    def _name(self) -> str:
        header = self.decoder_input.header
        return header.container or self._container.format.long_name

    def _audio_stream(self) -> Any:
        import av

        stream = self._container.streams.best("audio")
        if stream is None:
            raise BadAudioError("no_samples", f"{self._name} without sound")
        if stream.codec_context is None:
            raise BadAudioError("unsupported_codec", f"{self._name} with a codec that is not supported")
        if self.decoder_input.header.holds_bitstream and stream.codec_context.name.startswith("pcm_"):
            raise BadAudioError(
                "unsupported_codec", f"{self._name} with compressed sound that is declared as PCM"
            )
        if _codec_tag(stream) in ENCRYPTED_TAGS or self._is_encrypted_asf():
            raise BadAudioError("unsupported_codec", f"{self._name} that is encrypted (DRM)")
        for other in self._container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        stream.codec_context.thread_count = 1
        return stream

    def _is_encrypted_asf(self) -> bool:
        if "asf" not in self._container.format.name:
            return False
        position = self.decoder_input.tell()  # where FFmpeg goes on
        self.decoder_input.seek(0)
        head = self.decoder_input.read(INSPECTED_BYTES)
        self.decoder_input.seek(position)
        return any(guid in head for guid in ASF_ENCRYPTION)

    def _decode(self) -> Iterator[tuple[_Format, np.ndarray]]:
        """Yield each frame's format and samples, without the packets that cannot be decoded."""

        must_be_flawless = not WITHOUT_MAGIC.isdisjoint(self._format_names)
        packets = self._container.demux(self._stream)
        packet = None
        barren = failed = 0
        decoded_secs = 0.0
        for number in itertools.count():
            try:
                packet = next(packets, None)
                frames = self._stream.decode(packet) if packet is not None else []
                blocks = [(_format_of(frame), _samples_of(frame)) for frame in frames if frame.samples]
            except Exception as error:  # a decoder may fail on untrusted bytes in any way
                self.decoder_input.raise_stream_error()
                if must_be_flawless and number < FLAWLESS_PACKETS:
                    raise BadAudioError("not_audio", f"the content is not {self._name}") from error
                failed += 1
                self.loss = f"{failed} packets cannot be decoded"
                blocks = []
            self.decoder_input.raise_stream_error()
            yield from blocks
            decoded_secs += sum(len(samples) / max(kind.sample_rate_hz, 1) for kind, samples in blocks)
            barren = 0 if blocks else barren + 1
            if packet is None or barren > MAX_BARREN_PACKETS:
                break
        if decoded_secs < MIN_DECODED_SHARE * self._declared_secs():
            self.loss = f"only {decoded_secs:.3f} of {self._declared_secs():.3f} s can be decoded"

    def _declared_secs(self) -> float:
        """The length of the sound; 0 where it is not declared, or only for the sound together with other streams."""
        if not WITHOUT_MAGIC.isdisjoint(self._format_names):
            return 0.0  # an estimate by FFmpeg
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        others = [other for other in self._container.streams if other is not self._stream]
        is_alone = self._container.duration is not None and all(map(_is_picture, others))
        return self._container.duration / 1e6 if is_alone else 0.0

    @property
    def _format_names(self) -> list[str]:
        return self._container.format.name.split(",")


def _is_picture(stream: Any) -> bool:
    """Return whether a stream is an attached file or a cover."""
    return stream.type == "attachment" or bool(int(getattr(stream, "disposition", 0)) & ATTACHED_PICTURE)


def _codec_tag(stream: Any) -> str:
    try:
        return str(stream.codec_context.codec_tag)
    except UnicodeDecodeError:
        return ""


def _format_of(frame: Any) -> _Format:
    kind = frame.format.name.removesuffix("p")
    return _Format(frame.sample_rate, frame.layout.nb_channels, kind == "s16", kind in INTEGER_BITS)


def _samples_of(frame: Any) -> np.ndarray:
    """The samples of a frame, `[frames, channels]`: int16 if they have 16 bits, otherwise float32 at full scale 1."""
    kind, channels = frame.format.name.removesuffix("p"), frame.layout.nb_channels
    is_planar = frame.format.is_planar
    # Not frame.to_ndarray: it reads planes up to a null pointer, which does not follow the eighth one.
    planes = frame.planes[: channels if is_planar else 1]
    count = frame.samples * (1 if is_planar else channels)
    values = [np.frombuffer(plane, SAMPLE_TYPES[kind], count) for plane in planes]
    samples = np.stack(values, axis=1) if is_planar else values[0].reshape(-1, channels)
    if kind == "s16":
        return samples
    if kind == "u8":
        return (samples.astype(np.float32) - 128) / 128
    if kind in INTEGER_BITS:
        return (samples / 2.0 ** (INTEGER_BITS[kind] - 1)).astype(np.float32)
    return samples.astype(np.float32, copy=False)
