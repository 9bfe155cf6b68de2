"""The STFT and its log-magnitudes.

A frame is four hops long (Hann window), so that every sample lies in four frames. Frame t is centred on sample t * hop,
as are the frames of the MDCT.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.dsp.sizes import Size, sizes

OVERLAP = 4  # frames that a sample lies in
MIN_LOG_MAGNITUDE = -11.5  # 1e-5 of a full-scale sine, -100 dB: below it, differences are inaudible
MAX_LOG_MAGNITUDE = 1.0  # above a full-scale sine: a limit for what a guided decoder may ask for


def count_bins(hop: int) -> int:
    """Bins of a frame: all but the one at half the sample rate, which is left out."""
    return OVERLAP * hop // 2


def log_magnitudes(audio: tf.Tensor, hop: int, frames: Size) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, frames, count_bins(hop)]` float32; 0 is a sine of full scale.

    The clip is padded with silence on both sides.
    """
    return log_magnitudes_of_blocks(blocks_of(audio, hop, frames))


def blocks_of(audio: tf.Tensor, hop: int, frames: Size) -> tf.Tensor:
    """Divide `[batch, samples]` into `[batch, frames + OVERLAP - 1, hop]`: frame t consists of the blocks from t on.

    The clip is padded with silence on both sides.
    """
    return tf.reshape(pad_clip(audio, hop, frames), [-1, frames + OVERLAP - 1, hop])


def log_magnitudes_of_blocks(blocks: tf.Tensor) -> tf.Tensor:
    """`log_magnitudes` of the frames that `[batch, frames + OVERLAP - 1, hop]` adjacent blocks make."""
    _, count, hop = sizes(blocks)
    return log_magnitudes_of(stft(tf.reshape(blocks, [-1, count * hop]), hop), hop)


def log_magnitudes_of(spectrum: tf.Tensor, hop: int) -> tf.Tensor:
    """`[batch, frames, count_bins(hop) + 1]`, as `stft` returns -> `[batch, frames, count_bins(hop)]` float32."""
    spectrum = spectrum[..., :-1]
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    return tf.maximum(0.5 * tf.math.log(power + 1e-12) - log_full_scale(hop), MIN_LOG_MAGNITUDE)


def pad_clip(audio: tf.Tensor, hop: int, frames: Size) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, (frames + OVERLAP - 1) * hop]`, half a frame of silence before the clip."""
    _, samples = sizes(audio)
    half = OVERLAP * hop // 2
    length = (frames + OVERLAP - 1) * hop
    return tf.pad(audio, [[0, 0], [half, tf.maximum(length - half - samples, 0)]])[:, :length]


def stft(audio: tf.Tensor, hop: int) -> tf.Tensor:
    """`[batch, (frames + OVERLAP - 1) * hop]` -> `[batch, frames, count_bins(hop) + 1]` complex64."""
    size = OVERLAP * hop  # stated twice: the default is the next power of 2
    return tf.signal.stft(audio, size, hop, fft_length=size)


def inverse_stft(spectrum: tf.Tensor, hop: int) -> tf.Tensor:
    """Invert `stft`: the waveform whose spectrum is nearest to this one (Griffin & Lim 1984)."""
    window = tf.signal.inverse_stft_window_fn(hop)
    size = OVERLAP * hop
    return tf.signal.inverse_stft(spectrum, size, hop, fft_length=size, window_fn=window)


def log_full_scale(hop: int) -> tf.Tensor:
    """Log-magnitude of a full-scale sine: half the sum of the window."""
    return tf.math.log(OVERLAP * hop / 4.0)
