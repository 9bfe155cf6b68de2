"""Choose the decoder of each recording in a file: libsndfile, and FFmpeg for what it does not read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

from preprocessing.audio.decoder import Decoder
from preprocessing.audio.decoder_input import DecoderInput
from preprocessing.audio.errors import BadAudioError
from preprocessing.audio.ffmpeg import open_ffmpeg
from preprocessing.audio.headers.header import FileBytes, Header
from preprocessing.audio.headers.probe import Recording, read_header
from preprocessing.audio.libsndfile import LibsndfileDecoder
from preprocessing.options import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ

WITHOUT_DECODER = ("MIDI", "AAC in ADIF")


def open_decoders(
    stream: BinaryIO, recordings: list[Recording], report_loss: Callable[[str], None]
) -> Generator[Decoder, None, None]:
    """Yield a decoder for each part of a file that has one format, in order. Each is read before the next.

    Args:
        stream: The file.
        recordings: In it. If there is none, its format is unknown.
        report_loss: Is told what of a later recording cannot be read.

    Raises:
        BadAudioError: The first recording cannot be decoded.
    """
    for number, recording in enumerate(recordings or [_unknown(stream)]):
        decoders = _open(stream, recording)
        try:
            for decoder in decoders:
                check_sample_rate(decoder.sample_rate_hz)
                yield decoder
                if decoder.loss:
                    report_loss(decoder.loss)
            if recording.header.loss:
                report_loss(recording.header.loss)
        except BadAudioError as error:
            if number == 0:
                raise
            report_loss(f"the recording at byte {recording.start} cannot be read: {error.detail}")
        finally:
            decoders.close()


def check_sample_rate(sample_rate_hz: int) -> None:
    """Raise `BadAudioError` for a sample rate that no music has."""
    if not MIN_SOURCE_RATE_HZ <= sample_rate_hz <= MAX_SOURCE_RATE_HZ:
        raise BadAudioError("absurd_rate", f"the sample rate is {sample_rate_hz} Hz")


def _open(stream: BinaryIO, recording: Recording) -> Generator[Decoder, None, None]:
    header = recording.header
    error = BadAudioError("not_audio", "the first bytes match no known audio format")
    if header.container and header.decodable:
        decoder_input = DecoderInput(stream, recording.end, header)
        try:
            decoder = LibsndfileDecoder(decoder_input)
        except BadAudioError as libsndfile_error:
            error = libsndfile_error
        else:
            with contextlib.closing(decoder):
                yield decoder
            yield from _decode_rest_of_mp3(stream, recording, decoder_input)
            return
    elif header.container:
        name = f"{header.container} with {header.codec}" if header.codec else header.container
        error = BadAudioError("unsupported_codec", f"{name} is not supported")
    yield from _open_ffmpeg(stream, recording, error)


def _decode_rest_of_mp3(
    stream: BinaryIO, recording: Recording, decoder_input: DecoderInput
) -> Iterator[Decoder]:
    """Yield decoders for what follows bytes at which the decoder of an MP3 file has given up, where it is MP3, too."""
    start = recording.end - decoder_input.remaining_bytes
    while recording.header.container == "MP3" and recording.start < start < recording.end:
        header = read_header(FileBytes(stream, start, recording.end))
        if header is None or header.container != "MP3" or not (header.is_certain and header.decodable):
            return
        decoder_input = DecoderInput(stream, recording.end, header)
        with contextlib.closing(LibsndfileDecoder(decoder_input)) as decoder:
            yield decoder
        recording = Recording(start, recording.end, header)
        start = recording.end - decoder_input.remaining_bytes


def _open_ffmpeg(stream: BinaryIO, recording: Recording, error: BadAudioError) -> Iterator[Decoder]:
    """Yield FFmpeg's decoders; if it has none, raise the more telling one of its error and `error`."""
    header = recording.header
    # Without the tags before it, which hide from FFmpeg what follows.
    body_start = recording.start if header.decoder_head else max(header.body_start, recording.start)
    whole = Header(
        header.container,
        holds_bitstream=header.holds_bitstream,
        body_start=body_start,
        body_end=recording.end,
    )
    try:
        yield from open_ffmpeg(DecoderInput(stream, recording.end, whole))
    except BadAudioError as ffmpeg_error:
        if ffmpeg_error.reason == "unsupported_codec" and not (header.container and header.decodable):
            raise  # it says which codec, or that the file is encrypted
        is_of_ffmpeg = header.container and not (header.decodable or header.codec)
        if is_of_ffmpeg and ffmpeg_error.reason != "not_audio":
            raise
        if is_of_ffmpeg and header.container not in WITHOUT_DECODER:
            raise BadAudioError("corrupt", f"{header.container} that cannot be decoded") from ffmpeg_error
        raise error from ffmpeg_error


def _unknown(stream: BinaryIO) -> Recording:
    return Recording(0, stream.seek(0, 2), Header(""))
