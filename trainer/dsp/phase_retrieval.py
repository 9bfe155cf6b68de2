"""From a waveform to log-magnitudes of its STFT, and back: magnitudes nearly determine the phases.

A frame is four hops long (Hann window), so that every sample lies in four frames. Frame t is centred on sample t * hop,
as are the frames of the MDCT.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.dsp.sizes import Size, sizes

OVERLAP = 4  # frames that a sample lies in
MIN_LOG_MAGNITUDE = -11.5  # 1e-5 of a full-scale sine, -100 dB: below it, differences are inaudible
MAX_LOG_MAGNITUDE = 1.0  # above a full-scale sine: a limit for what a guided decoder may ask for
# Of the fast Griffin-Lim algorithm. On real clips, more iterations gain less than a tenth of a dB.
ITERATIONS = 32
MOMENTUM = 0.99  # Perraudin, Balazs & Sondergaard 2013, section 4


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
    return tf.reshape(_padded(audio, hop, frames), [-1, frames + OVERLAP - 1, hop])


def log_magnitudes_of_blocks(blocks: tf.Tensor) -> tf.Tensor:
    """`log_magnitudes` of the frames that `[batch, frames + OVERLAP - 1, hop]` adjacent blocks make."""
    _, count, hop = sizes(blocks)
    spectrum = _stft(tf.reshape(blocks, [-1, count * hop]), hop)[..., :-1]
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    return tf.maximum(0.5 * tf.math.log(power + 1e-12) - _log_full_scale(hop), MIN_LOG_MAGNITUDE)


def retrieve(log_magnitude: tf.Tensor, noise: tf.Tensor, known: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    """Find a waveform with these magnitudes by the fast Griffin-Lim algorithm (Perraudin et al. 2013, algorithm 2).

    Args:
        log_magnitude: `[batch, frames, count_bins(hop)]`, as `log_magnitudes` returns.
        noise: `[batch or 1, frames * hop]` standard normal: the phases at the start are those of this noise.
        known: `[batch, samples]`, a waveform.
        is_known: `[batch, samples]` boolean: where the result equals `known`.

    Returns:
        `[batch, samples]` float32, not clipped.
    """
    _, frames, bins = sizes(log_magnitude)
    hop, samples = 2 * bins // OVERLAP, sizes(known)[1]
    limited = tf.clip_by_value(log_magnitude, MIN_LOG_MAGNITUDE, MAX_LOG_MAGNITUDE)
    magnitude = tf.pad(tf.exp(limited + _log_full_scale(hop)), [[0, 0], [0, 0], [0, 1]])
    known, is_known = _padded(known, hop, frames), _padded(tf.cast(is_known, tf.float32), hop, frames)
    start = _stft(_padded(noise, hop, frames), hop) + tf.zeros_like(magnitude, tf.complex64)

    def signal_of(spectrum: tf.Tensor) -> tf.Tensor:
        scale = magnitude / tf.maximum(tf.abs(spectrum), 1e-9)
        signal = _inverse_stft(spectrum * tf.cast(scale, tf.complex64), hop)
        return is_known * known + (1 - is_known) * signal

    def improve(index: tf.Tensor, spectrum: tf.Tensor, previous: tf.Tensor) -> tuple:
        consistent = _stft(signal_of(spectrum), hop)
        return index + 1, consistent + MOMENTUM * (consistent - previous), consistent

    first = _stft(signal_of(start), hop)
    _, spectrum, _ = tf.while_loop(
        lambda index, *_: index < ITERATIONS,
        improve,
        (tf.constant(1), first, first),
        parallel_iterations=1,
    )
    half = OVERLAP * hop // 2
    return signal_of(spectrum)[:, half : half + samples]


def _padded(audio: tf.Tensor, hop: int, frames: Size) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, (frames + OVERLAP - 1) * hop]`, half a frame of silence before the clip."""
    _, samples = sizes(audio)
    half = OVERLAP * hop // 2
    length = (frames + OVERLAP - 1) * hop
    return tf.pad(audio, [[0, 0], [half, tf.maximum(length - half - samples, 0)]])[:, :length]


def _stft(audio: tf.Tensor, hop: int) -> tf.Tensor:
    size = OVERLAP * hop  # stated twice: the default is the next power of 2
    return tf.signal.stft(audio, size, hop, fft_length=size)


def _inverse_stft(spectrum: tf.Tensor, hop: int) -> tf.Tensor:
    window = tf.signal.inverse_stft_window_fn(hop)
    size = OVERLAP * hop
    return tf.signal.inverse_stft(spectrum, size, hop, fft_length=size, window_fn=window)


def _log_full_scale(hop: int) -> tf.Tensor:
    """Log-magnitude of a full-scale sine: half the sum of the window."""
    return tf.math.log(OVERLAP * hop / 4.0)
