"""Files of every kind, broken at random: each gives clips or a reason, in bounded time and memory.

The decoders are C and see strangers' bytes, so they run in a process of their own: whatever kills it is told
with the number of the case. Other and more cases: `python tests/test_fuzz.py SEED FIRST LAST`.
"""

import io
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
from collections import Counter

import numpy as np
import soundfile

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.dataset.quarantine import REASONS
from preprocessing.options import AudioFormat

SEED, CASES = 2_024, 1_200
MAX_SECS_OF_A_CASE = 20  # a thousandth of that is usual
MAX_SECS = 240
MAX_ADDRESSES = 4 * 2**30
MAX_GROWTH_BYTES = 100 * 2**20  # of the memory in use, over all cases

KINDS = [
    ("WAV", "PCM_16", 2),
    ("WAV", "PCM_U8", 1),
    ("WAV", "FLOAT", 6),
    ("WAV", "ULAW", 1),
    ("WAV", "IMA_ADPCM", 2),
    ("WAV", "MS_ADPCM", 1),
    ("WAV", "GSM610", 1),
    ("WAVEX", "PCM_24", 2),
    ("RF64", "PCM_16", 1),
    ("W64", "PCM_16", 2),
    ("AU", "PCM_16", 1),
    ("AU", "G721_32", 1),
    ("AIFF", "PCM_16", 2),
    ("AIFF", "FLOAT", 1),
    ("AIFF", "IMA_ADPCM", 1),
    ("FLAC", "PCM_16", 2),
    ("OGG", "VORBIS", 2),
    ("OGG", "OPUS", 1),
    ("MP3", "MPEG_LAYER_III", 2),
    ("CAF", "PCM_16", 1),
]
FORMATS = [
    AudioFormat(3_000, 0.3, 900, min_secs=0.1, max_secs=3.0),
    AudioFormat(3_000, 0.3, 900, hop_secs=0.1, min_secs=0.1, max_secs=3.0),
    AudioFormat(8_000, 0.2, 1_600, hop_secs=0.45, min_secs=0.0, max_secs=20.0),
]
NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]


def originals():
    """A short file of each kind, and some with chunks and tags around the samples."""
    generator = np.random.default_rng(0)
    files = []
    for kind, subtype, channels in KINDS:
        rate_hz = 16_000 if subtype == "OPUS" else 8_000
        noise = np.clip(0.2 * generator.standard_normal((4_800, channels)), -1, 1)
        stream = io.BytesIO()
        soundfile.write(stream, noise, rate_hz, format=kind, subtype=subtype)
        files.append(stream.getvalue())
    wave, mp3 = files[0], files[18]
    files.append(wave[:12] + b"LIST\x14\0\0\0INFOIART\x08\0\0\0somebody" + wave[12:])
    files.append(wave + 2 * b"LIST\xf7\xff\xff\xff")  # libsndfile 1.2.2 never comes back from this
    files.append(wave + b"id3 \x04\0\0\0ID3\x03" + b"TAG" + bytes(125))
    files.append(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + mp3[mp3.index(mp3[:2], 4) :])
    return files


def mutated(random_, data, files):
    """`data` with one to eight changes, most of them near its beginning."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        at = random_.randrange(min(len(changed), random_.choice((64, 256, len(changed)))))
        size = random_.randrange(1, 300)
        match random_.randrange(8):
            case 0:
                changed[at] ^= 1 << random_.randrange(8)
            case 1:
                changed[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
            case 2:
                del changed[random_.randrange(len(changed)) :]
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = random_.randbytes(size)
            case 5:
                other = random_.randrange(len(changed))
                changed[at : at + size], changed[other : other + size] = (
                    changed[other : other + size],
                    changed[at : at + size],
                )
            case 6:
                layout = random_.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
                content = struct.pack(layout, random_.choice(NUMBERS) % 256 ** struct.calcsize(layout))
                changed[at : at + len(content)] = content
            case 7:
                stranger = random_.choice(files)
                changed[at:at] = stranger[:size] if random_.random() < 0.5 else stranger[-size:]
    return bytes(changed)


def outcome(data, audio):
    """`"clips"` or the reason; anything else that happens is a failure."""
    count = 0
    try:
        for clip in decode_clips(io.BytesIO(data), audio):
            assert clip.waveform.shape == (audio.clip_samples,)
            assert clip.waveform.dtype == np.float32
            assert np.isfinite(clip.waveform).all()
            assert np.abs(clip.waveform).max() <= 1
            assert 0 < clip.valid_samples <= audio.clip_samples
            assert not clip.waveform[clip.valid_samples :].any()
            count += 1
    except BadAudioError as bad:
        assert bad.reason in REASONS
        return bad.reason, bad.detail
    assert count
    return "clips", count


def run_cases(seed, first, last):
    """Runs in the process of its own: says each number before its case, and what came of all in the end."""
    files = originals()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also where C code does not come back
    for audio in FORMATS:
        outcome(files[0], audio)  # all that is loaded on first use is no growth
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = Counter()
    for number in range(first, last):
        os.write(1, b"%d\n" % number)
        random_ = random.Random(f"{seed} {number}")
        data = mutated(random_, random_.choice(files), files)
        audio = random_.choice(FORMATS)
        signal.alarm(MAX_SECS_OF_A_CASE)
        result = outcome(data, audio)
        assert outcome(data, audio) == result, "the same file, and another answer"
        signal.alarm(0)
        found[result[0]] += 1
    growth_bytes = 1_024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)
    assert growth_bytes < MAX_GROWTH_BYTES, f"{growth_bytes / 2**20:.0f} MiB more than for a good file"
    print(json.dumps(found))


def test_whatever_is_broken_gives_clips_or_a_reason():
    command = [sys.executable, __file__, str(SEED), "0", str(CASES)]
    try:
        run = subprocess.run(command, capture_output=True, timeout=MAX_SECS, check=False)
        end, out, err = f"exit code {run.returncode}", run.stdout, run.stderr
    except subprocess.TimeoutExpired as late:
        end, out, err = "no end", late.stdout or b"", late.stderr or b""
    lines = out.decode(errors="replace").splitlines()  # among them those that C code prints
    case = [line for line in lines if line.isdigit()][-1:]
    found = [json.loads(line) for line in lines if line.startswith("{")]
    said = err.decode(errors="replace")[-3_000:]
    assert found and end == "exit code 0", f"{end} at case {case} of seed {SEED}:\n{said}"
    assert {"clips", "damaged", "truncated", "not_audio", "unsupported_codec", "non_finite"} <= set(found[0])


if __name__ == "__main__":
    run_cases(*map(int, sys.argv[1:]))
