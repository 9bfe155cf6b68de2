"""Audio files in memory in the formats that FFmpeg writes, and what FFmpeg alone decodes them to."""

from __future__ import annotations

import io

import av
import numpy as np

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}
SAMPLE_FORMATS = {"tta": "s16", "wavpack": "s16p"}  # of which the encoders prefer 8 bits


def encode_with_ffmpeg(waveform, rate_hz, codec, container, has_video=False, options=None):
    """Return `[frames, channels]` as the bytes of a file, on request with a stream of black pictures."""
    stream = io.BytesIO()
    layout = LAYOUTS[waveform.shape[1]]
    samples = np.round(waveform * 32_767).astype(np.int16).reshape(1, -1)
    with av.open(stream, "w", format=container) as output:
        if has_video:
            video = output.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        encoder = output.add_stream(codec, rate=rate_hz, layout=layout, options=options or {})
        if codec in SAMPLE_FORMATS:
            encoder.codec_context.format = SAMPLE_FORMATS[codec]
        converter = av.AudioResampler(format=encoder.codec_context.format, layout=layout, rate=rate_hz)
        whole = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        whole.sample_rate, whole.pts = rate_hz, 0
        queue = av.AudioFifo()
        for frame in converter.resample(whole) + converter.resample(None):
            queue.write(frame)
        encoder.codec_context.open()
        frame_size = encoder.codec_context.frame_size or 1_024
        while (frame := queue.read(frame_size, partial=True)) is not None:
            output.mux(encoder.encode(frame))
        output.mux(encoder.encode(None))
        if has_video:
            _write_pictures(output, video, 25 * len(waveform) // rate_hz)
    return stream.getvalue()


def silent_video(container):
    """Return a file with a second of pictures and no sound."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        _write_pictures(output, video, 25)
    return stream.getvalue()


def _write_pictures(output, video, count):
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
        picture.pts = number
        output.mux(video.encode(picture))
    output.mux(video.encode(None))


def decode_with_ffmpeg(data):
    """Return the mean of the channels, `[frames]` float32, as FFmpeg decodes and converts them."""
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        converter = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
        frames = [part for frame in file.decode(stream) for part in converter.resample(frame)]
        values = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        return values.reshape(-1, stream.layout.nb_channels).mean(axis=1)
