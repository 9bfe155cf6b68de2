"""Open an untrusted file with FFmpeg: only demuxers and codecs of sound, and only the file's own bytes."""

from __future__ import annotations

import functools
from typing import Any, Never

from preprocessing.audio.decoder_input import DecoderInput
from preprocessing.audio.errors import BadAudioError

# Playlists, images, subtitles, raw samples and what refers to other files are left out.
DEMUXERS = ",".join(
    (
        "aac,ac3,aiff,amr,ape,asf,asf_o,au,avi,avr,caf,dsf,dts,dtshd,eac3,flac,flv,iff,ircam,loas,matroska,webm,mlp",
        "mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,oma,pvf,qcp,rm,sds,shn,spdif,tak,truehd",
        "tta,voc,w64,wav,wv,wve,xwma",
    )
)
PROBED_BYTES = 1 << 20  # to recognize the container and its streams


def open_container(decoder_input: DecoderInput) -> Any:
    """Return PyAV's container of a file.

    Raises:
        BadAudioError: FFmpeg does not know the format.
        Exception: Whatever the file's stream raises, unchanged.
    """
    import av

    container_options = {
        "format_whitelist": DEMUXERS,
        "codec_whitelist": _audio_codecs(),
        "protocol_whitelist": "none",
        "probesize": str(PROBED_BYTES),
        "max_streams": "64",
    }
    try:
        container = av.open(
            decoder_input, io_open=_refuse, container_options=container_options, **_tag_options()
        )
    except Exception as error:  # a demuxer may fail on untrusted bytes in any way
        decoder_input.raise_stream_error()
        raise BadAudioError("not_audio", "FFmpeg does not know the format") from error
    decoder_input.raise_stream_error()
    return container


def _tag_options() -> dict[str, Any]:
    """Return the options by which tags that are not UTF-8 are no error. PyAV 19 accepts them by itself."""
    import av

    return {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}


@functools.cache
def _audio_codecs() -> str:
    """Return the names of the decoders that may be used, separated by commas."""
    import av

    av.logging.set_level(None)
    av.logging.set_libav_level(av.logging.PANIC)
    names = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "r")
        except ValueError:  # only an encoder
            continue
        if codec.type == "audio":
            names.append(codec.name)
    return ",".join(names)


def _refuse(url: str, flags: int, options: dict[str, str]) -> Never:
    raise PermissionError(f"the file refers to another one: {url}")
