"""Compose the clips of the demo corpus: from a genre's `Style` to the notes of each part.

Time is counted in steps of a sixteenth note from the clip's start. Pitches are MIDI note numbers (69 is 440 Hz)
or, where the octave does not matter, pitch classes (0 is C).
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
BASS_LOWEST, COMP_LOWEST, LEAD_RANGE = 33, 54, range(60, 80)
"""Registers of the parts as MIDI notes: from 55 Hz, from 185 Hz, and 262 to 784 Hz."""

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
ROOTS = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
QUALITIES = {"": (0, 4, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "o": (0, 3, 6), "h7": (0, 3, 6, 10)}
FORMS = ("AABA", "AABB", "ABAB", "AAB.", ".ABA")
"""Sequences of two-bar phrases: A and B are a clip's two motifs, `.` is a phrase without a melody."""
INTERVALS = (-4, -3, -2, -2, 0, 2, 2, 3, 4)
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
    """One note; `voice` is a key of `preprocessing.synthetic.synth.VOICES`."""

    start_secs: float
    length_secs: float
    hz: float
    gain: float
    voice: str


class Motif(NamedTuple):
    """Two bars of melody, before their pitches are adapted to the chords."""

    rhythm: str  # a pattern, see `Groove`
    target_pitches: tuple[int, ...]  # MIDI notes, one per onset
    voice: str


@dataclass(frozen=True)
class Composition:
    """The random choices of one clip; `step_secs` is the length of a sixteenth note in seconds."""

    style: Style
    groove: Groove
    step_secs: float
    scale: frozenset[int]
    blue_notes: frozenset[int]
    chords: tuple[Chord, ...]
    motifs: dict[str, Motif]
    form: str
    comp: str
    bass: str

    @property
    def steps(self) -> int:
        """The number of sixteenth notes in a bar."""
        return len(self.groove.bass)

    def time(self, step: int) -> float:
        """Return the start of a step, in seconds; swing delays the second half of each beat."""
        beat, offset = divmod(step, STEPS_PER_BEAT)
        phase = np.interp(offset / STEPS_PER_BEAT, (0.0, 0.5, 1.0), (0.0, self.style.swing, 1.0))
        return (beat + float(phase)) * STEPS_PER_BEAT * self.step_secs

    def chord(self, step: int) -> Chord:
        """Return the chord of the bar that contains `step`."""
        return self.chords[step // self.steps % len(self.chords)]

    def passing_tones(self, step: int) -> set[int]:
        """Return the pitch classes for an unstressed note.

        They are those of the chord, those of the scale that are no semitone away from it, and the blue notes.
        """
        chord = self.chord(step)
        dissonant = {(tone + shift) % OCTAVE for tone in chord for shift in (-1, 1)}
        return set(chord) | (self.scale - dissonant) | self.blue_notes

    def note(self, step: int, length: int, pitch: int, gain: float, voice: str) -> Note:
        """Return a note of `length` steps at a MIDI pitch."""
        hz = 440.0 * 2.0 ** ((pitch - 69) / OCTAVE)
        return Note(self.time(step), length * self.step_secs, hz, gain, voice)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of `options`; `rng.choice` would convert it to a NumPy type."""
    return options[rng.integers(len(options))]


def _transpose_to_octave(pitch: int, lowest: int) -> int:
    """Transpose `pitch` by octaves into the octave that begins at `lowest`."""
    return lowest + (pitch - lowest) % OCTAVE


def _arpeggio_tone(tones: Sequence[int], index: int) -> int:
    """Return the `index`-th of the ascending `tones`, which repeat an octave higher after the last."""
    octaves, index = divmod(index, len(tones))
    return tones[index] + OCTAVE * octaves


def _onsets(pattern: str) -> Iterator[tuple[int, int, str]]:
    """Yield the step, length in steps and symbol of each onset of a pattern (see `Groove`)."""
    for match in re.finditer(r"[^.-]-*", pattern):
        yield match.start(), len(match.group()), match.group()[0]


def parse_chord(numeral: str, tonic: int) -> Chord:
    """Return the pitch classes of a Roman numeral, such as `bVI` or `iih7`, in the key of `tonic`.

    A lower-case numeral has a minor third.

    Raises:
        ValueError: `numeral` is not a Roman numeral of a chord.
    """
    match = re.fullmatch(r"(b?)([IViv]+)(.*)", numeral)
    if match is None:
        raise ValueError(f"{numeral!r} is not a Roman numeral of a chord")
    flat, degree, quality = match.groups()
    root = tonic + ROOTS[degree.lower()] - len(flat)
    return tuple((root + tone - (tone == 4 and degree.islower())) % OCTAVE for tone in QUALITIES[quality])


def _draw_motif(rng: np.random.Generator, style: Style, steps: int, voice: str) -> Motif:
    """Draw two bars of `steps` each: they begin on the beat, and end with a long note and a rest."""
    beats = 2 * steps // STEPS_PER_BEAT
    cells = [style.cells[0], *(_pick(rng, style.cells) for _ in range(beats - 3))]
    rhythm = "".join(cells) + _pick(rng, ("x---....", "x-----..", "x-x-----"))
    pitches = [int(rng.integers(LEAD_RANGE.start + 4, LEAD_RANGE.stop - 6))]
    for _ in range(rhythm.count("x") - 1):
        interval = _pick(rng, INTERVALS)
        pitches.append(pitches[-1] + (interval if pitches[-1] + interval in LEAD_RANGE else -interval))
    return Motif(rhythm, tuple(pitches), voice)


def compose(rng: np.random.Generator, style: Style) -> Composition:
    """Draw the key, tempo, chords, groove, motifs, form and instruments of a clip."""
    tonic = int(rng.integers(OCTAVE))
    numerals = _pick(rng, style.progressions).split()
    scale = MINOR if {"i", "i7"} & set(numerals) else MAJOR
    groove = _pick(rng, style.grooves)
    leads = rng.permutation(style.leads).tolist()
    return Composition(
        style=style,
        groove=groove,
        step_secs=60.0 / rng.uniform(*style.tempo_bpm) / STEPS_PER_BEAT,
        scale=frozenset((tonic + tone) % OCTAVE for tone in scale),
        blue_notes=frozenset((tonic + tone) % OCTAVE for tone in style.blue_notes),
        chords=tuple(parse_chord(numeral, tonic) for numeral in numerals),
        motifs={name: _draw_motif(rng, style, len(groove.bass), leads.pop()) for name in "AB"},
        form=_pick(rng, FORMS),
        comp=_pick(rng, style.comps),
        bass=_pick(rng, style.basses),
    )


def _melody(composition: Composition, bars: int) -> Iterator[Note]:
    """Yield the motifs in the order of the form, with each pitch moved to the nearest one that fits the chord."""
    for phrase in range(math.ceil(bars / 2)):
        motif = composition.motifs.get(composition.form[phrase % len(composition.form)])
        if motif is None:
            continue
        for (offset, length, _), target in zip(_onsets(motif.rhythm), motif.target_pitches, strict=True):
            step = 2 * phrase * composition.steps + offset
            stressed = length >= STEPS_PER_BEAT or offset % composition.steps % (2 * STEPS_PER_BEAT) == 0
            fitting = set(composition.chord(step)) if stressed else composition.passing_tones(step)
            distances = ((abs(pitch - target), pitch) for pitch in LEAD_RANGE if pitch % OCTAVE in fitting)
            _, pitch = min(distances)
            yield composition.note(step, length, pitch, 1.0 if stressed else 0.8, motif.voice)


def _bass(composition: Composition, bars: int) -> Iterator[Note]:
    """Yield the groove's bass line on the tones of each bar's chord."""
    for bar in range(bars):
        for offset, length, symbol in _onsets(composition.groove.bass):
            step = bar * composition.steps + offset
            root, *others = composition.chord(step)
            bass = _transpose_to_octave(root, BASS_LOWEST)
            tones = (bass, *(bass + (other - root) % OCTAVE for other in others))
            if symbol == "<":
                next_root, *_ = composition.chord(step + composition.steps)
                pitch = _transpose_to_octave(next_root, BASS_LOWEST) - 1
            else:
                pitch = bass + OCTAVE if symbol == "8" else _arpeggio_tone(tones, int(symbol))
            yield composition.note(step, length, pitch, 1.0 if offset == 0 else 0.85, composition.bass)


def _comp(composition: Composition, bars: int) -> Iterator[Note]:
    """Yield the groove's chords or arpeggios, voiced within one octave so that common tones keep their pitch."""
    for bar in range(bars):
        chord = composition.chord(bar * composition.steps)
        voicing = sorted(_transpose_to_octave(tone, COMP_LOWEST) for tone in chord)
        for offset, length, symbol in _onsets(composition.groove.comp):
            for pitch in voicing if symbol == "x" else (_arpeggio_tone(voicing, int(symbol)),):
                yield composition.note(bar * composition.steps + offset, length, pitch, 1.0, composition.comp)


def _drums(composition: Composition, bars: int) -> Iterator[Note]:
    """Yield the groove's drum patterns, with its fill in every fourth bar."""
    for bar in range(bars):
        patterns = composition.groove.drums | ({"snare": composition.groove.fill} if bar % 4 == 3 else {})
        for drum, pattern in patterns.items():
            hz, length_secs, gain = DRUMS[drum]
            for offset, _, _ in _onsets(pattern):
                accent = 1.0 if offset % STEPS_PER_BEAT == 0 else 0.7
                yield Note(
                    composition.time(bar * composition.steps + offset), length_secs, hz, gain * accent, drum
                )


PARTS = {"lead": _melody, "comp": _comp, "bass": _bass, "drums": _drums}
"""Part -> function that yields its notes for a number of bars."""
