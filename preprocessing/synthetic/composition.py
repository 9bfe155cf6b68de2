"""How the demo corpus is composed: from a genre's `Style` to the notes of each part, bar by bar.

Time is counted in steps of a sixteenth note from the clip's start, pitch in MIDI notes (69 is 440 Hz) or,
where the octave does not matter, in pitch classes (0 is C).
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from preprocessing.synthetic.styles import Groove, Style

STEPS_PER_BEAT = 4
OCTAVE = 12
BASS_LOW, COMP_LOW, LEAD = 33, 54, range(60, 80)
"""Registers of the parts: from 55 Hz, from 185 Hz, and 262 to 784 Hz."""

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
ROOTS = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
QUALITIES = {"": (0, 4, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "o": (0, 3, 6), "h7": (0, 3, 6, 10)}
FORMS = ("AABA", "AABB", "ABAB", "AAB.", ".ABA")
"""Orders of two-bar phrases: A and B are a clip's two motifs, `.` leaves the phrase to the accompaniment."""
LEAPS = (-4, -3, -2, -2, 0, 2, 2, 3, 4)
"""Steps of a melody's random walk, in semitones."""
DRUMS = {
    "kick": (52.0, 0.32, 1.0),
    "snare": (600.0, 0.22, 0.6),
    "rim": (420.0, 0.07, 0.4),
    "hat": (3000.0, 0.07, 0.12),
    "ride": (2200.0, 0.25, 0.16),
}
"""Each drum's pitch in Hz, length in seconds and gain."""

T = TypeVar("T")
Chord = tuple[int, ...]
"""Pitch classes (0 is C), the root first."""


class Note(NamedTuple):
    """A sound to be played: when, how long, at which frequency, how loud, by which of `VOICES`."""

    start_s: float
    length_s: float
    hz: float
    gain: float
    voice: str


class Motif(NamedTuple):
    """Two bars of melody before they meet their chords: a rhythm, and for each onset a pitch to aim at."""

    rhythm: str
    aims: tuple[int, ...]
    voice: str


@dataclass(frozen=True)
class Take:
    """All that is drawn once for a clip; `step_s` is the length of a sixteenth note in seconds."""

    style: Style
    groove: Groove
    step_s: float
    scale: frozenset[int]
    blue_notes: frozenset[int]
    chords: tuple[Chord, ...]
    motifs: dict[str, Motif]
    form: str
    comp: str
    bass: str

    @property
    def steps(self) -> int:
        """Sixteenth notes in a bar."""
        return len(self.groove.bass)

    def time(self, step: int) -> float:
        """When a step begins, in seconds from the clip's start; swing delays the second half of each beat."""
        beat, part = divmod(step, STEPS_PER_BEAT)
        swung = np.interp(part / STEPS_PER_BEAT, (0.0, 0.5, 1.0), (0.0, self.style.swing, 1.0))
        return (beat + float(swung)) * STEPS_PER_BEAT * self.step_s

    def chord(self, step: int) -> Chord:
        """Return the chord of the bar that holds `step`."""
        return self.chords[step // self.steps % len(self.chords)]

    def passing(self, step: int) -> set[int]:
        """Pitch classes for an unstressed note: the chord's, and what of the scale does not grate on it."""
        chord = self.chord(step)
        grating = {(tone + shift) % OCTAVE for tone in chord for shift in (-1, 1)}
        return set(chord) | (self.scale - grating) | self.blue_notes

    def note(self, step: int, length: int, pitch: int, gain: float, voice: str) -> Note:
        """Write down a note of `length` steps at a MIDI pitch."""
        hz = 440.0 * 2.0 ** ((pitch - 69) / OCTAVE)
        return Note(self.time(step), length * self.step_s, hz, gain, voice)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of `options` as it is: `rng.choice` would make NumPy values of them."""
    return options[rng.integers(len(options))]


def _fold(pitch: int, low: int) -> int:
    """Move `pitch` by octaves into the one that begins at `low`."""
    return low + (pitch - low) % OCTAVE


def _climb(tones: Sequence[int], index: int) -> int:
    """Return the `index`-th of the ascending `tones`, which go on an octave higher past their end."""
    octaves, index = divmod(index, len(tones))
    return tones[index] + OCTAVE * octaves


def _onsets(pattern: str) -> Iterator[tuple[int, int, str]]:
    """Yield the step, length in steps and symbol of each stroke of a pattern (see `Groove`)."""
    for stroke in re.finditer(r"[^.-]-*", pattern):
        yield stroke.start(), len(stroke.group()), stroke.group()[0]


def parse_chord(numeral: str, tonic: int) -> Chord:
    """Spell a Roman numeral, such as `bVI` or `iih7`, in the key of `tonic`; lower case lowers the third."""
    match = re.fullmatch(r"(b?)([IViv]+)(.*)", numeral)
    if match is None:
        raise ValueError(f"{numeral!r} is no Roman numeral of a chord")
    flat, degree, quality = match.groups()
    root = tonic + ROOTS[degree.lower()] - len(flat)
    return tuple((root + tone - (tone == 4 and degree.islower())) % OCTAVE for tone in QUALITIES[quality])


def _draw_motif(rng: np.random.Generator, style: Style, steps: int, voice: str) -> Motif:
    """Draw two bars of `steps`: they open on the beat, and end on a long note and a breath."""
    beats = 2 * steps // STEPS_PER_BEAT
    cells = [style.cells[0], *(_pick(rng, style.cells) for _ in range(beats - 3))]
    rhythm = "".join(cells) + _pick(rng, ("x---....", "x-----..", "x-x-----"))
    aims = [int(rng.integers(LEAD.start + 4, LEAD.stop - 6))]
    for _ in range(rhythm.count("x") - 1):
        leap = _pick(rng, LEAPS)
        aims.append(aims[-1] + (leap if aims[-1] + leap in LEAD else -leap))
    return Motif(rhythm, tuple(aims), voice)


def draw_take(rng: np.random.Generator, style: Style) -> Take:
    """Draw a clip's key, tempo, chords, groove, motifs, form and instruments."""
    tonic = int(rng.integers(OCTAVE))
    numerals = _pick(rng, style.progressions).split()
    scale = MINOR if {"i", "i7"} & set(numerals) else MAJOR
    groove = _pick(rng, style.grooves)
    leads = rng.permutation(style.leads).tolist()
    return Take(
        style=style,
        groove=groove,
        step_s=60.0 / rng.uniform(*style.tempo_bpm) / STEPS_PER_BEAT,
        scale=frozenset((tonic + tone) % OCTAVE for tone in scale),
        blue_notes=frozenset((tonic + tone) % OCTAVE for tone in style.blue_notes),
        chords=tuple(parse_chord(numeral, tonic) for numeral in numerals),
        motifs={name: _draw_motif(rng, style, len(groove.bass), leads.pop()) for name in "AB"},
        form=_pick(rng, FORMS),
        comp=_pick(rng, style.comps),
        bass=_pick(rng, style.basses),
    )


def _melody(take: Take, bars: int) -> Iterator[Note]:
    """Play the motifs in the order of the form, each pitch bent to the nearest that suits the chord."""
    for phrase in range(math.ceil(bars / 2)):
        motif = take.motifs.get(take.form[phrase % len(take.form)])
        if motif is None:
            continue
        for (offset, length, _), aim in zip(_onsets(motif.rhythm), motif.aims, strict=True):
            step = 2 * phrase * take.steps + offset
            stressed = length >= STEPS_PER_BEAT or offset % take.steps % (2 * STEPS_PER_BEAT) == 0
            suits = set(take.chord(step)) if stressed else take.passing(step)
            distances = ((abs(pitch - aim), pitch) for pitch in LEAD if pitch % OCTAVE in suits)
            _, pitch = min(distances)
            yield take.note(step, length, pitch, 1.0 if stressed else 0.8, motif.voice)


def _bass(take: Take, bars: int) -> Iterator[Note]:
    """Play the groove's bass line on the tones of each bar's chord."""
    for bar in range(bars):
        for offset, length, symbol in _onsets(take.groove.bass):
            step = bar * take.steps + offset
            root, *others = take.chord(step)
            low = _fold(root, BASS_LOW)
            tones = (low, *(low + (other - root) % OCTAVE for other in others))
            if symbol == "<":
                pitch = _fold(take.chord(step + take.steps)[0], BASS_LOW) - 1
            else:
                pitch = low + OCTAVE if symbol == "8" else _climb(tones, int(symbol))
            yield take.note(step, length, pitch, 1.0 if offset == 0 else 0.85, take.bass)


def _comp(take: Take, bars: int) -> Iterator[Note]:
    """Play the groove's chords or arpeggios, voiced within an octave so that common tones stay in place."""
    for bar in range(bars):
        voicing = sorted(_fold(tone, COMP_LOW) for tone in take.chord(bar * take.steps))
        for offset, length, symbol in _onsets(take.groove.comp):
            for pitch in voicing if symbol == "x" else (_climb(voicing, int(symbol)),):
                yield take.note(bar * take.steps + offset, length, pitch, 1.0, take.comp)


def _drums(take: Take, bars: int) -> Iterator[Note]:
    """Play the groove's drum patterns, with its fill in every fourth bar."""
    for bar in range(bars):
        patterns = take.groove.drums | ({"snare": take.groove.fill} if bar % 4 == 3 else {})
        for drum, pattern in patterns.items():
            hz, length_s, gain = DRUMS[drum]
            for offset, _, _ in _onsets(pattern):
                accent = 1.0 if offset % STEPS_PER_BEAT == 0 else 0.7
                yield Note(take.time(bar * take.steps + offset), length_s, hz, gain * accent, drum)


PARTS = {"lead": _melody, "comp": _comp, "bass": _bass, "drums": _drums}
"""How each part of a take is played, for a number of bars."""
