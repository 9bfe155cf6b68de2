"""The sounds of the demo corpus: voices, drums and effects, in NumPy alone.

A voice is a function `(hz, seconds) -> float32[samples]`, mono at `SAMPLE_RATE`, longer than `seconds` by its
fading out. The first 0.4 s have an RMS of about 1: struck and blown notes sound equally loud. It is pure, its
noise having a fixed seed, so that a caller may cache what it returns. The spectra are dark on purpose, for
training hears nothing above 1,500 Hz.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

SAMPLE_RATE = 22_050
"""Samples per second of everything here; the rate of GTZAN."""

SIXTY_DB = np.log(1000.0)
"""A decay "in T s" means that `exp(-SIXTY_DB * t / T)`, 60 dB down after T seconds, shapes the sound."""

Voice = Callable[[float, float], np.ndarray]


def _seconds(length_s: float) -> np.ndarray:
    """Time of each sample of a sound of `length_s`, in seconds."""
    return np.arange(round(length_s * SAMPLE_RATE)) / SAMPLE_RATE


def _noise(samples: int) -> np.ndarray:
    """Return the same white noise on each call."""
    return np.random.default_rng(0).standard_normal(samples)


def _rms(sound: np.ndarray) -> float:
    """Root of the mean square, kept above 0 for a divisor."""
    return max(float(np.sqrt(np.mean(sound**2))), 1e-9)


def fade(sound: np.ndarray, attack_s: float, release_s: float) -> np.ndarray:
    """Scale both ends of `sound`, `[samples]`, by half a cosine, in place: neither clicks. Return it."""
    for seconds, end in ((attack_s, sound), (release_s, sound[::-1])):
        ramp = end[: round(seconds * SAMPLE_RATE)]
        ramp *= 0.5 - 0.5 * np.cos(np.pi * np.arange(len(ramp)) / max(len(ramp), 1))
    return sound


def _finish(sound: np.ndarray, attack_s: float, release_s: float) -> np.ndarray:
    """Fade a voice's sound at both ends and level its start."""
    sound = fade(sound.astype(np.float32), attack_s, release_s)
    return sound / _rms(sound[: round(0.4 * SAMPLE_RATE)])


def additive(
    hz: float,
    seconds: float,
    *,
    partials: tuple[float, ...],
    decay_s: float,
    damping: float = 0.0,
    attack_s: float = 0.01,
    release_s: float = 0.06,
    vibrato: float = 0.0,
) -> np.ndarray:
    """Sum harmonics of `hz` with amplitudes `partials`; harmonic k dies in `decay_s / k**damping` seconds.

    `vibrato` is the peak deviation of the pitch as a fraction of `hz`, at 5.3 Hz, grown over the first 0.3 s.
    """
    time = _seconds(seconds + release_s)
    wobble = vibrato * hz / (2 * np.pi * 5.3) * np.sin(2 * np.pi * 5.3 * time) * np.minimum(time / 0.3, 1.0)
    # Whole cycles are dropped in double precision: then single precision serves the sines, at half the cost.
    phase = (2 * np.pi * ((hz * time + wobble) % 1.0)).astype(np.float32)
    time = time.astype(np.float32)
    sound = np.zeros_like(phase)
    for k, amplitude in enumerate(partials, start=1):
        if amplitude and k * hz < SAMPLE_RATE / 2:
            sound += amplitude * np.exp(-SIXTY_DB / decay_s * k**damping * time) * np.sin(k * phase)
    return _finish(sound, attack_s, release_s)


def fm(
    hz: float, seconds: float, *, ratio: float, index: float, decay_s: float, release_s: float = 0.08
) -> np.ndarray:
    """Modulate a sine's phase by a sine of `ratio * hz`, with an index that decays (Chowning 1973).

    The sound dies in `decay_s` seconds, the modulation in a third of them: bright at the stroke, then pure.
    """
    time = _seconds(seconds + release_s)
    fall = np.exp(-SIXTY_DB * time / decay_s)
    modulation = index * fall**3 * np.sin(2 * np.pi * ratio * hz * time)
    return _finish(fall * np.sin(2 * np.pi * hz * time + modulation), 0.004, release_s)


def pluck(
    hz: float, seconds: float, *, decay_s: float, dark_hz: float, release_s: float = 0.06
) -> np.ndarray:
    """Pluck a string (Karplus & Strong 1983): a noise burst circles in a delay line and a two-point average.

    It is computed as a transfer function, `burst / (1 - loop)`, which an FFT inverts: that spares a Python
    loop over samples, and the delay need not be a whole number of them, so that each pitch is in tune.
    `decay_s` is that of the fundamental; the burst is softened above `dark_hz`, as by a thumb.
    """
    length = round((seconds + release_s) * SAMPLE_RATE)
    # The inverse FFT is periodic; over this size the string has died away and cannot wrap onto its own start.
    size = 1 << int(max(length, decay_s * SAMPLE_RATE)).bit_length()
    burst = _noise(round(SAMPLE_RATE / hz))
    omega = np.linspace(0.0, np.pi, size // 2 + 1)
    gain = np.exp(-SIXTY_DB / (hz * decay_s)) * np.cos(omega / 2)
    loop = gain * np.exp(-1j * omega * SAMPLE_RATE / hz)
    thumb = 1.0 / (1.0 + (omega * SAMPLE_RATE / (2 * np.pi * dark_hz)) ** 2)
    string = np.fft.irfft(np.fft.rfft(burst - burst.mean(), size) * thumb / (1.0 - loop))
    return _finish(string[:length], 0.003, release_s)


def thump(hz: float, seconds: float, *, drop: float = 1.2) -> np.ndarray:
    """Strike a drum skin: a sine that falls to `hz` from `1 + drop` times that, and dies in `seconds`."""
    time = _seconds(seconds)
    cycles = hz * (time + drop * 0.03 * (1.0 - np.exp(-time / 0.03)))
    return _finish(np.exp(-SIXTY_DB * time / seconds) * np.sin(2 * np.pi * cycles), 0.002, 0.01)


def hiss(hz: float, seconds: float, *, octaves: float = 1.0) -> np.ndarray:
    """Shake or brush: noise in a bell-shaped band, `octaves` to each side of `hz`, that dies in `seconds`."""
    time = _seconds(seconds)
    frequency = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
    band = np.exp(-0.5 * (np.log2(np.maximum(frequency, 1.0) / hz) / (0.5 * octaves)) ** 2)
    noise = np.fft.irfft(np.fft.rfft(_noise(len(time))) * band, len(time))
    return _finish(np.exp(-SIXTY_DB * time / seconds) * noise, 0.002, 0.01)


def snare(hz: float, seconds: float) -> np.ndarray:
    """Strike a snare drum: the wires are noise around `hz`, the skin a thump at a third of it."""
    return 0.6 * hiss(hz, seconds) + 0.4 * thump(hz / 3, seconds, drop=0.3)


VOICES: dict[str, Voice] = {
    "piano": partial(
        additive, partials=(1, 0.5, 0.3, 0.16, 0.1, 0.05), decay_s=2.4, damping=0.7, attack_s=0.005
    ),
    "organ": partial(additive, partials=(1, 0.7, 0.35, 0.25, 0, 0.12), decay_s=30.0, vibrato=0.003),
    "flute": partial(additive, partials=(1, 0.25, 0.08, 0.03), decay_s=12.0, attack_s=0.05, vibrato=0.004),
    "clarinet": partial(
        additive, partials=(1, 0.06, 0.5, 0.05, 0.25, 0.03, 0.1), decay_s=12.0, attack_s=0.03
    ),
    "strings": partial(
        additive,
        partials=(1, 0.6, 0.4, 0.3, 0.2, 0.12, 0.08),
        decay_s=20.0,
        attack_s=0.08,
        release_s=0.15,
        vibrato=0.005,
    ),
    "brass": partial(
        additive,
        partials=(0.8, 1, 0.8, 0.5, 0.3, 0.15),
        decay_s=6.0,
        damping=0.8,
        attack_s=0.03,
        vibrato=0.002,
    ),
    "melodica": partial(
        additive, partials=(1, 0.3, 0.6, 0.2, 0.3, 0.1), decay_s=15.0, attack_s=0.025, vibrato=0.004
    ),
    "vibraphone": partial(fm, ratio=4.0, index=0.5, decay_s=2.2, release_s=0.25),
    "electric piano": partial(fm, ratio=1.0, index=1.3, decay_s=2.0),
    "bell": partial(fm, ratio=3.0, index=0.9, decay_s=1.6, release_s=0.2),
    "guitar": partial(pluck, decay_s=1.4, dark_hz=900.0),
    "harp": partial(pluck, decay_s=1.4, dark_hz=500.0, release_s=0.3),
    "muted guitar": partial(pluck, decay_s=0.35, dark_hz=1000.0),
    "upright bass": partial(pluck, decay_s=1.0, dark_hz=160.0),
    "electric bass": partial(additive, partials=(1, 0.6, 0.35, 0.15, 0.08), decay_s=1.6, damping=0.5),
    "synth bass": partial(fm, ratio=1.0, index=2.0, decay_s=0.9, release_s=0.03),
    "dub bass": partial(additive, partials=(1, 0.35, 0.12), decay_s=3.0, damping=0.5, attack_s=0.015),
    "cello": partial(additive, partials=(1, 0.7, 0.5, 0.25, 0.12), decay_s=8.0, attack_s=0.06, vibrato=0.003),
    "kick": thump,
    "snare": snare,
    "hat": partial(hiss, octaves=1.5),
    "ride": partial(hiss, octaves=2.0),
    "rim": partial(thump, drop=0.1),
}
"""Each instrument by its name."""


@cache
def _room(seconds: float, size: int) -> np.ndarray:
    """Spectrum of a room's response: noise that dies in `seconds`, of energy 1."""
    response = _noise(round(seconds * SAMPLE_RATE)) * np.exp(-SIXTY_DB * _seconds(seconds) / seconds)
    return np.fft.rfft(response / np.sqrt(np.sum(response**2)), size)


def reverberate(dry: np.ndarray, seconds: float, wet: float) -> np.ndarray:
    """Add a room of `seconds` (below 2) at `wet` times the level of `dry`; both are `[samples]`."""
    # Two seconds of zeros keep the circular convolution from wrapping, and make 32 s: a 7-smooth, fast, FFT.
    size = len(dry) + 2 * SAMPLE_RATE
    echo = np.fft.irfft(np.fft.rfft(dry, size) * _room(seconds, size), size)
    return dry + wet * echo[: len(dry)]


def level(part: np.ndarray, rms: float = 1.0) -> np.ndarray:
    """Bring the RMS of `part`, `[samples]`, to `rms`; silence stays silent."""
    return part * (rms / _rms(part))


def master(mix: np.ndarray) -> np.ndarray:
    """Even out loudness: round the peaks of `mix`, `[samples]`, with tanh; fade it; set its peak to 0.85."""
    rounded = fade(np.tanh(level(mix, 0.25)), 0.008, 0.03)
    return (0.85 / max(np.abs(rounded).max(), 1e-9) * rounded).astype(np.float32)
