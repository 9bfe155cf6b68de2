"""The demo corpus: synthesized music in GTZAN's layout, for a machine that has no licensed audio.

A clip is composed (`composition`) in the style of its genre (`styles`) and rendered by the voices of `synth`.
Its random generator is seeded with the corpus's seed, the genre and the clip's number, so clip 7 is the same
whether 8 clips are synthesized or 800.

    python -m preprocessing.synthetic --output data/demo --clips-per-genre 10
"""

import io
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from preprocessing.storage.atomic import write_atomically
from preprocessing.synthetic.composition import PARTS, Note, compose
from preprocessing.synthetic.styles import STYLES
from preprocessing.synthetic.synth import SAMPLE_RATE_HZ, VOICES, level, master, reverberate

GENRES = tuple(STYLES)
"""The genres of the corpus: five of GTZAN's ten."""

CLIP_SECS = 30
CLIP_SAMPLES = CLIP_SECS * SAMPLE_RATE_HZ
"""Size of a complete file: a 44-byte header and 16-bit samples."""
MAX_CLIPS_PER_GENRE = 100_000
"""The number in a file name has five digits."""


def _play(notes: Iterator[Note], rng: np.random.Generator) -> np.ndarray:
    """Render a part, `[samples]` with an RMS of 1 (or silence), with slight random changes of timing and level."""
    part = np.zeros(CLIP_SAMPLES, np.float32)
    render_note = cache(lambda voice, hz, length_secs: VOICES[voice](hz, length_secs))
    for note in notes:
        start = round(max(note.start_secs + rng.normal(0.0, 0.004), 0.0) * SAMPLE_RATE_HZ)
        sound = render_note(note.voice, note.hz, note.length_secs)[: max(CLIP_SAMPLES - start, 0)]
        part[start : start + len(sound)] += note.gain * rng.uniform(0.85, 1.0) * sound
    return level(part)


def synthesize_clip(genre: str, number: int, seed: int = 0) -> np.ndarray:
    """Compose and render clip `number` (from 0) of one of `GENRES`.

    Returns:
        30 s of mono audio at 22,050 Hz: `[661500]` float32 with a peak of 0.85. The same arguments give the
        same bits on one machine with one version of NumPy; elsewhere sines may differ in the last bit.
    """
    style = STYLES[genre]
    rng = np.random.default_rng(np.random.SeedSequence([seed, GENRES.index(genre), number]))
    composition = compose(rng, style)
    bars = math.ceil(CLIP_SECS / (composition.steps * composition.step_secs))
    parts = [gain * _play(PARTS[part](composition, bars), rng) for part, gain in style.levels.items()]
    mix = sum(parts[1:], start=parts[0])
    return master(reverberate(mix, style.reverb_secs, wet=0.25))


def write_corpus(
    output: Path, clips_per_genre: int = 10, seed: int = 0, on_clip: Callable[[], object] | None = None
) -> int:
    """Write `<output>/<genre>/<genre>.<number>.wav` (22,050 Hz, mono, 16 bit); return how many were written.

    An existing file is kept, whatever it is: for another seed, choose another `output`.
    `on_clip` is called after each clip, written or kept.
    """
    written = 0
    for genre in GENRES:
        (output / genre).mkdir(parents=True, exist_ok=True)
        for number in range(clips_per_genre):
            path = output / genre / f"{genre}.{number:05d}.wav"
            if not path.exists():
                write_atomically(path, _encode(synthesize_clip(genre, number, seed)))
                written += 1
            if on_clip:
                on_clip()
    return written


def _encode(clip: np.ndarray) -> bytes:
    """Encode a clip as WAV in memory, so that an error of the disk is an `OSError`, not one of libsndfile."""
    wav = io.BytesIO()
    soundfile.write(wav, clip, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return wav.getvalue()
