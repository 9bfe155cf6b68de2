"""The demo corpus: synthesized music in GTZAN's layout, for a machine that has no licensed audio.

A clip is composed (`composition`) from the data of its genre (`styles`) and played by the voices of `synth`.
Its random generator is seeded with the corpus's seed, the genre and the clip's number: clip 7 is the same
whether 8 clips are synthesized or 800.

    python -m preprocessing.synthetic.corpus --output data/demo --clips-per-genre 10
"""

import io
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from preprocessing.synthetic.composition import PARTS, Note, draw_take
from preprocessing.synthetic.styles import STYLES
from preprocessing.synthetic.synth import SAMPLE_RATE, VOICES, level, master, reverberate

GENRES = tuple(STYLES)
"""The genres of the corpus: five of GTZAN's ten."""

CLIP_SECONDS = 30
CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE
WAV_BYTES = 44 + 2 * CLIP_SAMPLES
"""Size of a finished file: a 44-byte header and 16-bit samples."""
MAX_CLIPS_PER_GENRE = 100_000
"""Clips of a genre that a file name's five digits can number."""


def _play(notes: Iterator[Note], rng: np.random.Generator) -> np.ndarray:
    """Render a part, `[samples]` with an RMS of 1 (or silence), with a player's small unevenness."""
    part = np.zeros(CLIP_SAMPLES, np.float32)
    sound_of = cache(lambda voice, hz, length_s: VOICES[voice](hz, length_s))
    for note in notes:
        start = round(max(note.start_s + rng.normal(0.0, 0.004), 0.0) * SAMPLE_RATE)
        sound = sound_of(note.voice, note.hz, note.length_s)[: max(CLIP_SAMPLES - start, 0)]
        part[start : start + len(sound)] += note.gain * rng.uniform(0.85, 1.0) * sound
    return level(part)


def synthesize_clip(genre: str, number: int, seed: int = 0) -> np.ndarray:
    """Compose and play clip `number` (from 0) of one of `GENRES`.

    Returns 30 s of mono sound at 22,050 Hz: `float32[661500]` in [-1, 1], with a peak of 0.85. The same
    arguments give the same bits on one machine and NumPy; another's sines may differ in the last one.
    """
    style = STYLES[genre]
    rng = np.random.default_rng(np.random.SeedSequence([seed, GENRES.index(genre), number]))
    take = draw_take(rng, style)
    bars = math.ceil(CLIP_SECONDS / (take.steps * take.step_s))
    parts = [gain * _play(PARTS[part](take, bars), rng) for part, gain in style.levels.items()]
    mix = sum(parts[1:], start=parts[0])
    return master(reverberate(mix, style.room_s, wet=0.25))


def write_corpus(
    output: Path, clips_per_genre: int = 10, seed: int = 0, on_clip: Callable[[], object] | None = None
) -> int:
    """Write `<output>/<genre>/<genre>.<number>.wav` (22,050 Hz, mono, 16 bit); return how many were written.

    A file that is there with its full size is kept, whichever seed made it: for another seed, choose another
    `output`. `on_clip` is called after each clip, written or kept.
    """
    written = 0
    for genre in GENRES:
        (output / genre).mkdir(parents=True, exist_ok=True)
        for number in range(clips_per_genre):
            path = output / genre / f"{genre}.{number:05d}.wav"
            if not path.exists() or path.stat().st_size != WAV_BYTES:
                path.write_bytes(_encode(synthesize_clip(genre, number, seed)))
                written += 1
            if on_clip:
                on_clip()
    return written


def _encode(clip: np.ndarray) -> bytes:
    """Encode in memory, so that what can go wrong with the disk is an `OSError` that says so."""
    wav = io.BytesIO()
    soundfile.write(wav, clip, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return wav.getvalue()
