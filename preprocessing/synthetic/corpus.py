"""The demo corpus: synthesized music in GTZAN's layout, for a machine that has no licensed audio.

A clip is composed (`preprocessing.synthetic.composition`) from its genre's data (`preprocessing.synthetic.styles`) and played by
the voices of `preprocessing.synthetic.synth`. It draws from a generator of its own, seeded with the corpus's seed, the
genre and the clip's number: clip 7 is the same whether 8 clips are made or 800.

    python -m preprocessing.synthetic.corpus --output data/demo --clips-per-genre 10
"""

import argparse
import io
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from preprocessing.cli import SentenceParser, run_command
from preprocessing.synthetic.composition import PARTS, Note, draw_take
from preprocessing.synthetic.styles import STYLES
from preprocessing.synthetic.synth import SAMPLE_RATE, VOICES, level, master, reverberate

PROGRAM = "python -m preprocessing.synthetic.corpus"
GENRES = tuple(STYLES)
"""The genres of the corpus: five of GTZAN's ten."""

CLIP_SECONDS = 30
CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE
WAV_BYTES = 44 + 2 * CLIP_SAMPLES
"""Size of a finished file: a 44-byte header and 16-bit samples."""
MOST_CLIPS = 100_000
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
    mix = sum(gain * _play(PARTS[part](take, bars), rng) for part, gain in style.levels.items())
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


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description=f"Synthesize 30 s clips of {', '.join(GENRES)} in GTZAN's layout, free of any licence.",
        epilog="Clips that are already there are kept, whichever seed made them.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write <genre>/<genre>.<number>.wav in; made if missing",
    )
    parser.add_argument(
        "--clips-per-genre",
        type=int,
        default=10,
        metavar="N",
        help=f"clips of each genre, 1 to {MOST_CLIPS}, 1.3 MB each (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="0 or more; another seed makes other music (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="print tracebacks")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit code (see `preprocessing.errors`)."""
    parser = build_parser()
    flags = parser.parse_args(argv)
    if not 1 <= flags.clips_per_genre <= MOST_CLIPS:
        parser.error(f"--clips-per-genre {flags.clips_per_genre} is not from 1 to {MOST_CLIPS}")
    if flags.seed < 0:
        parser.error(f"--seed {flags.seed} is below 0")
    return run_command(PROGRAM, lambda: _run(flags), flags.verbose)


def _run(flags: argparse.Namespace) -> None:
    total = len(GENRES) * flags.clips_per_genre
    with tqdm(total=total, unit="clip", file=sys.stderr) as progress:
        written = write_corpus(flags.output, flags.clips_per_genre, flags.seed, progress.update)
    print(f"{flags.output}: {total} clips of {len(GENRES)} genres, {written} written, {total - written} kept")


if __name__ == "__main__":
    sys.exit(main())
