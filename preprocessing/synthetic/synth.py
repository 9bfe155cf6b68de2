"""The sounds of the demo corpus: voices, drums and effects, in NumPy alone.

A voice is a function `(hz, seconds) -> float32[samples]`, mono at `SAMPLE_RATE_HZ`, longer than `seconds` by its
release. The first 0.4 s have an RMS of about 1, so that struck and blown notes are equally loud. Its noise has a
fixed seed, so the same arguments give the same samples and callers may cache them. The spectra have little energy
above 1,500 Hz, half the default sample rate of a dataset.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

SAMPLE_RATE_HZ = 22_050
"""That of GTZAN."""

SIXTY_DB = np.log(1000.0)
"""A decay time of T seconds is the envelope `exp(-SIXTY_DB * t / T)`, which is down by 60 dB at T."""

Voice = Callable[[float, float], np.ndarray]


def _sample_times_secs(length_secs: float) -> np.ndarray:
    """Return the time of each sample of a sound of `length_secs`, in seconds."""
    return np.arange(round(length_secs * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def _noise(samples: int) -> np.ndarray:
    """Return white noise, the same on each call."""
    return np.random.default_rng(0).standard_normal(samples)


def _rms(sound: np.ndarray) -> float:
    """Return the root mean square, at least 1e-9, so that it can be a divisor."""
    return max(float(np.sqrt(np.mean(sound**2))), 1e-9)


def fade(sound: np.ndarray, attack_secs: float, release_secs: float) -> np.ndarray:
    """Fade `sound`, `[samples]`, in and out with half a cosine, in place, and return it."""
    for fade_secs, end in ((attack_secs, sound), (release_secs, sound[::-1])):
        ramp = end[: round(fade_secs * SAMPLE_RATE_HZ)]
        ramp *= 0.5 - 0.5 * np.cos(np.pi * np.arange(len(ramp)) / max(len(ramp), 1))
    return sound


def _finish(sound: np.ndarray, attack_secs: float, release_secs: float) -> np.ndarray:
    """Fade a voice's sound in and out, and scale it so that its first 0.4 s have an RMS of 1."""
    sound = fade(sound.astype(np.float32), attack_secs, release_secs)
    return sound / _rms(sound[: round(0.4 * SAMPLE_RATE_HZ)])


def additive(
    hz: float,
    seconds: float,
    *,
    partials: tuple[float, ...],
    decay_secs: float,
    damping: float = 0.0,
    attack_secs: float = 0.01,
    release_secs: float = 0.06,
    vibrato: float = 0.0,
) -> np.ndarray:
    """Sum harmonics of `hz` with amplitudes `partials`; harmonic k has a decay time of `decay_secs / k**damping`.

    `vibrato` is the peak deviation of the pitch as a fraction of `hz`, at a rate of 5.3 Hz; it sets in over the
    first 0.3 s.
    """
    time = _sample_times_secs(seconds + release_secs)
    deviation = vibrato * hz / (2 * np.pi * 5.3) * np.sin(2 * np.pi * 5.3 * time)
    deviation *= np.minimum(time / 0.3, 1.0)
    # Whole cycles are removed in float64, so that float32 is precise enough for the sines, at half the cost.
    phase = (2 * np.pi * ((hz * time + deviation) % 1.0)).astype(np.float32)
    time = time.astype(np.float32)
    sound = np.zeros_like(phase)
    for k, amplitude in enumerate(partials, start=1):
        if amplitude and k * hz < SAMPLE_RATE_HZ / 2:
            sound += amplitude * np.exp(-SIXTY_DB / decay_secs * k**damping * time) * np.sin(k * phase)
    return _finish(sound, attack_secs, release_secs)


def fm(
    hz: float, seconds: float, *, ratio: float, index: float, decay_secs: float, release_secs: float = 0.08
) -> np.ndarray:
    """Modulate the phase of a sine with a sine of `ratio * hz` and a decaying index (Chowning 1973).

    The sound has a decay time of `decay_secs`, the modulation a third of it: a bright attack, then a pure tone.
    """
    time = _sample_times_secs(seconds + release_secs)
    decay = np.exp(-SIXTY_DB * time / decay_secs)
    modulation = index * decay**3 * np.sin(2 * np.pi * ratio * hz * time)
    return _finish(decay * np.sin(2 * np.pi * hz * time + modulation), 0.004, release_secs)


def pluck(
    hz: float, seconds: float, *, decay_secs: float, dark_hz: float, release_secs: float = 0.06
) -> np.ndarray:
    """Pluck a string (Karplus & Strong 1983): a noise burst in a loop of a delay line and a two-point average.

    The loop's transfer function, `burst / (1 - loop)`, is evaluated with an FFT. This avoids a Python loop over
    samples and allows delays of fractional samples, so that every pitch is in tune. `decay_secs` is the decay time of
    the fundamental; a low-pass filter attenuates the burst above `dark_hz`.
    """
    length = round((seconds + release_secs) * SAMPLE_RATE_HZ)
    # The inverse FFT is periodic: its size must exceed the decay, or the tail would wrap around to the start.
    size = 1 << int(max(length, decay_secs * SAMPLE_RATE_HZ)).bit_length()
    burst = _noise(round(SAMPLE_RATE_HZ / hz))
    omega = np.linspace(0.0, np.pi, size // 2 + 1)
    gain = np.exp(-SIXTY_DB / (hz * decay_secs)) * np.cos(omega / 2)
    loop = gain * np.exp(-1j * omega * SAMPLE_RATE_HZ / hz)
    low_pass = 1.0 / (1.0 + (omega * SAMPLE_RATE_HZ / (2 * np.pi * dark_hz)) ** 2)
    string = np.fft.irfft(np.fft.rfft(burst - burst.mean(), size) * low_pass / (1.0 - loop))
    return _finish(string[:length], 0.003, release_secs)


def thump(hz: float, seconds: float, *, drop: float = 1.2) -> np.ndarray:
    """Strike a drum head: a sine that falls from `(1 + drop) * hz` to `hz`, with a decay time of `seconds`."""
    time = _sample_times_secs(seconds)
    cycles = hz * (time + drop * 0.03 * (1.0 - np.exp(-time / 0.03)))
    return _finish(np.exp(-SIXTY_DB * time / seconds) * np.sin(2 * np.pi * cycles), 0.002, 0.01)


def hiss(hz: float, seconds: float, *, octaves: float = 1.0) -> np.ndarray:
    """Strike a cymbal: noise in a band of `octaves` to each side of `hz`, with a decay time of `seconds`."""
    time = _sample_times_secs(seconds)
    frequency = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE_HZ)
    band = np.exp(-0.5 * (np.log2(np.maximum(frequency, 1.0) / hz) / (0.5 * octaves)) ** 2)
    noise = np.fft.irfft(np.fft.rfft(_noise(len(time))) * band, len(time))
    return _finish(np.exp(-SIXTY_DB * time / seconds) * noise, 0.002, 0.01)


def snare(hz: float, seconds: float) -> np.ndarray:
    """Strike a snare drum: noise around `hz` for the wires, and a thump at a third of it for the head."""
    return 0.6 * hiss(hz, seconds) + 0.4 * thump(hz / 3, seconds, drop=0.3)


VOICES: dict[str, Voice] = {
    "piano": partial(
        additive, partials=(1, 0.5, 0.3, 0.16, 0.1, 0.05), decay_secs=2.4, damping=0.7, attack_secs=0.005
    ),
    "organ": partial(additive, partials=(1, 0.7, 0.35, 0.25, 0, 0.12), decay_secs=30.0, vibrato=0.003),
    "flute": partial(
        additive, partials=(1, 0.25, 0.08, 0.03), decay_secs=12.0, attack_secs=0.05, vibrato=0.004
    ),
    "clarinet": partial(
        additive, partials=(1, 0.06, 0.5, 0.05, 0.25, 0.03, 0.1), decay_secs=12.0, attack_secs=0.03
    ),
    "strings": partial(
        additive,
        partials=(1, 0.6, 0.4, 0.3, 0.2, 0.12, 0.08),
        decay_secs=20.0,
        attack_secs=0.08,
        release_secs=0.15,
        vibrato=0.005,
    ),
    "brass": partial(
        additive,
        partials=(0.8, 1, 0.8, 0.5, 0.3, 0.15),
        decay_secs=6.0,
        damping=0.8,
        attack_secs=0.03,
        vibrato=0.002,
    ),
    "melodica": partial(
        additive, partials=(1, 0.3, 0.6, 0.2, 0.3, 0.1), decay_secs=15.0, attack_secs=0.025, vibrato=0.004
    ),
    "vibraphone": partial(fm, ratio=4.0, index=0.5, decay_secs=2.2, release_secs=0.25),
    "electric piano": partial(fm, ratio=1.0, index=1.3, decay_secs=2.0),
    "bell": partial(fm, ratio=3.0, index=0.9, decay_secs=1.6, release_secs=0.2),
    "guitar": partial(pluck, decay_secs=1.4, dark_hz=900.0),
    "harp": partial(pluck, decay_secs=1.4, dark_hz=500.0, release_secs=0.3),
    "muted guitar": partial(pluck, decay_secs=0.35, dark_hz=1000.0),
    "upright bass": partial(pluck, decay_secs=1.0, dark_hz=160.0),
    "electric bass": partial(additive, partials=(1, 0.6, 0.35, 0.15, 0.08), decay_secs=1.6, damping=0.5),
    "synth bass": partial(fm, ratio=1.0, index=2.0, decay_secs=0.9, release_secs=0.03),
    "dub bass": partial(additive, partials=(1, 0.35, 0.12), decay_secs=3.0, damping=0.5, attack_secs=0.015),
    "cello": partial(
        additive, partials=(1, 0.7, 0.5, 0.25, 0.12), decay_secs=8.0, attack_secs=0.06, vibrato=0.003
    ),
    "kick": thump,
    "snare": snare,
    "hat": partial(hiss, octaves=1.5),
    "ride": partial(hiss, octaves=2.0),
    "rim": partial(thump, drop=0.1),
}
"""Name of the instrument -> voice."""


@cache
def _room_response(seconds: float, size: int) -> np.ndarray:
    """Return the spectrum of an impulse response: noise with a decay time of `seconds` and an energy of 1."""
    response = _noise(round(seconds * SAMPLE_RATE_HZ)) * np.exp(
        -SIXTY_DB * _sample_times_secs(seconds) / seconds
    )
    return np.fft.rfft(response / np.sqrt(np.sum(response**2)), size)


def reverberate(dry: np.ndarray, seconds: float, wet: float) -> np.ndarray:
    """Add reverberation to `dry`, `[samples]`, at `wet` times its level; `seconds` must be below 2."""
    # Two seconds of zeros keep the circular convolution from wrapping around; 32 s are a size with a fast FFT.
    size = len(dry) + 2 * SAMPLE_RATE_HZ
    reverberation = np.fft.irfft(np.fft.rfft(dry, size) * _room_response(seconds, size), size)
    return dry + wet * reverberation[: len(dry)]


def level(part: np.ndarray, rms: float = 1.0) -> np.ndarray:
    """Scale `part`, `[samples]`, to an RMS of `rms`; silence stays silent."""
    return part * (rms / _rms(part))


def master(mix: np.ndarray) -> np.ndarray:
    """Compress the peaks of `mix`, `[samples]`, with tanh, fade it in and out, and set its peak to 0.85."""
    compressed = fade(np.tanh(level(mix, 0.25)), 0.008, 0.03)
    return (0.85 / max(np.abs(compressed).max(), 1e-9) * compressed).astype(np.float32)
