"""The genres of the demo corpus as data for `preprocessing.synthetic.composition`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Groove:
    """One bar of accompaniment, as patterns with one character per sixteenth note.

    `.` is a rest and `-` sustains the note before. A digit is that tone of the chord, counted from 0. In `bass`,
    `8` is the root an octave higher and `<` the semitone below the next chord's root. In `comp`, `x` is the whole
    chord. In `drums`, by the drum's name, `x` is a stroke; in every fourth bar, `fill` is the snare's pattern.
    """

    bass: str
    comp: str
    drums: dict[str, str] = field(default_factory=dict)
    fill: str = ""


@dataclass(frozen=True)
class Style:
    """The characteristics of a genre; where there are several options, each clip draws its own."""

    tempo_bpm: tuple[int, int]
    """Slowest and fastest tempo, in quarter notes per minute."""
    swing: float
    """Position of the second eighth note in a beat: 0.5 is straight, 0.67 triplet swing."""
    progressions: tuple[str, ...]
    """Roman numerals, one chord per bar; the key is minor if they include `i` or `i7`."""
    grooves: tuple[Groove, ...]
    cells: tuple[str, ...]
    """Rhythms of one beat, from which melodies are assembled; the first cell begins each motif."""
    leads: tuple[str, ...]
    comps: tuple[str, ...]
    basses: tuple[str, ...]
    levels: dict[str, float]
    """RMS amplitude of each part, relative to the others."""
    reverb_secs: float
    """Reverberation time: the seconds until the reverberation has decayed by 60 dB."""
    blue_notes: tuple[int, ...] = ()
    """Semitones above the tonic that the melody may use over any chord."""


STYLES = {
    "blues": Style(
        tempo_bpm=(84, 112),
        swing=0.66,
        progressions=(
            "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7",
            "I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7",
            "i7 i7 i7 i7 iv7 iv7 i7 i7 bVI7 V7 i7 V7",
            "I7 V7 IV7 IV7 I7 V7 I7 V7",
        ),
        grooves=(
            Groove(
                bass="0-0-1-1-2-2-3-2-",
                comp="....x.......x...",
                drums={"kick": "x.......x.x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
                fill="....x.......x.xx",
            ),
            Groove(
                bass="0---0-2-3---2-<-",
                comp="x-....x-....x-x-",
                drums={"kick": "x.....x.x.......", "snare": "....x.......x...", "ride": "x...x.x.x...x.x."},
                fill="....x.....x.x.x.",
            ),
        ),
        cells=("x-x-", "x---", "--x-", "x-x-", "x.x-", "..x-", "...."),
        leads=("guitar", "organ", "melodica"),
        comps=("organ", "guitar", "piano"),
        basses=("electric bass", "upright bass"),
        levels={"lead": 1.0, "comp": 0.45, "bass": 0.8, "drums": 0.5},
        reverb_secs=0.7,
        blue_notes=(3, 10),
    ),
    "classical": Style(
        tempo_bpm=(88, 132),
        swing=0.5,
        progressions=(
            "I V vi iii IV I IV V",
            "I vi ii V7 I IV V7 I",
            "i iv bVII bIII bVI iio V7 i",
            "i V7 i iv i iv V7 i",
            "I I ii7 V7 I vi ii V7",
        ),
        grooves=(
            Groove(bass="0---------------", comp="0-2-1-2-0-2-1-2-"),
            Groove(bass="0-----------", comp="....x---x---"),
            Groove(bass="0-------2-------", comp="0-1-2-3-4-3-2-1-"),
            Groove(bass="0-----------", comp="0-1-2-3-2-1-"),
        ),
        cells=("x---", "----", "x-x-", "x---", "x--x", "x-x-"),
        leads=("flute", "strings", "harp", "piano"),
        comps=("harp", "piano", "strings"),
        basses=("cello", "piano"),
        levels={"lead": 1.0, "comp": 0.7, "bass": 0.55},
        reverb_secs=1.6,
    ),
    "disco": Style(
        tempo_bpm=(114, 128),
        swing=0.5,
        progressions=(
            "i7 iv7 bVII bIII",
            "vi IV V I",
            "i7 i7 bVI bVII",
            "Imaj7 vi7 ii7 V7",
            "i bVII bVI V7",
        ),
        grooves=(
            Groove(
                bass="0.8.0.8.0.8.0.8.",
                comp="x---------------",
                drums={"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "..x...x...x...x."},
                fill="....x..x..x.xxxx",
            ),
            Groove(
                bass="0..80.8.0..82.<.",
                comp="..x...x...x...x.",
                drums={"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "x.xxx.xxx.xxx.xx"},
                fill="....x.......xxxx",
            ),
            Groove(
                bass="0--0..8.0--0..8.",
                comp="x.xx.xx.x.xx.xx.",
                drums={"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "..x...x...x...x."},
                fill="....x.....x.x.xx",
            ),
        ),
        cells=("x-x-", "x--x", "--x-", "x.xx", "..x-", "x---", "...."),
        leads=("strings", "brass", "electric piano", "bell"),
        comps=("strings", "electric piano", "muted guitar"),
        basses=("synth bass", "electric bass"),
        levels={"lead": 1.0, "comp": 0.6, "bass": 0.7, "drums": 0.8},
        reverb_secs=0.9,
    ),
    "jazz": Style(
        tempo_bpm=(132, 176),
        swing=0.64,
        progressions=(
            "ii7 V7 Imaj7 Imaj7",
            "Imaj7 vi7 ii7 V7",
            "iih7 V7 i7 i7",
            "Imaj7 IV7 iii7 VI7 ii7 V7 Imaj7 V7",
            "ii7 V7 Imaj7 IVmaj7 iih7 V7 i7 i7",
        ),
        grooves=(
            Groove(
                bass="0---1---2---<---",
                comp="x-....x-........",
                drums={"ride": "x...x.x.x...x.x.", "hat": "....x.......x..."},
                fill="......x.....x.x.",
            ),
            Groove(
                bass="0---2---1---<---",
                comp="..x---....x-....",
                drums={"ride": "x...x.x.x...x.x.", "hat": "....x.......x...", "kick": "x.............x."},
                fill="..x.....x.x.....",
            ),
            Groove(
                bass="0---3---2---<---",
                comp="......x-......x-",
                drums={"ride": "x...x.x.x...x.x.", "snare": "..............x."},
                fill="......x.......x.",
            ),
        ),
        cells=("x-x-", "--x-", "x-x-", "..x-", "x---", "x-..", "....", "x-x-"),
        leads=("vibraphone", "brass", "clarinet", "guitar"),
        comps=("piano", "electric piano", "guitar"),
        basses=("upright bass",),
        levels={"lead": 1.0, "comp": 0.5, "bass": 0.85, "drums": 0.3},
        reverb_secs=0.8,
    ),
    "reggae": Style(
        tempo_bpm=(68, 86),
        swing=0.54,
        progressions=("I IV I V", "i iv i v", "I V vi IV", "i bVII bVI bVII", "I ii I ii"),
        grooves=(
            Groove(
                bass="0---..0-2-0-....",
                comp="..x...x...x...x.",
                drums={"kick": "........x.......", "rim": "........x.......", "hat": "x.x.x.x.x.x.x.x."},
                fill="........x...x.xx",
            ),
            Groove(
                bass="0-0-..2-..1-0-..",
                comp="..x...xx..x...xx",
                drums={"kick": "....x.......x...", "rim": "...x..x...x.....", "hat": "..x...x...x...x."},
                fill="....x..x..x.x...",
            ),
            Groove(
                bass="....0-0-2---0-1-",
                comp="..x.x.x...x.x.x.",
                drums={"kick": "x...x...x...x...", "snare": "........x.......", "hat": "..x...x...x...x."},
                fill="........x..x..xx",
            ),
        ),
        cells=("x-x-", "x---", "....", "..x-", "x-xx", "----"),
        leads=("melodica", "organ", "brass", "guitar"),
        comps=("muted guitar", "organ", "piano"),
        basses=("dub bass",),
        levels={"lead": 0.9, "comp": 0.7, "bass": 0.9, "drums": 0.6},
        reverb_secs=1.1,
    ),
}
