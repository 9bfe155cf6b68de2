"""Fuzzing: files of every format with random changes give clips or a reason, in bounded time and memory.

The decoders are written in C and parse untrusted bytes, so they run in a process of their own; if it dies, the test
reports the number of the case. Other cases: `make fuzz`.
"""

import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from support.inputs.ffmpeg_files import encode_with_ffmpeg
from support.inputs.mutations import mutate

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.dataset.quarantine import REASONS
from preprocessing.options import AudioFormat

SEED, CASES = 2_024, 1_200
MAX_CASE_SECS = 20  # a thousandth of that is typical
MAX_SECS = 240
MAX_ADDRESS_SPACE_BYTES = 4 * 2**30
MAX_GROWTH_BYTES = 100 * 2**20  # of the peak memory, over all cases

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
FFMPEG_KINDS = [
    ("aac", "ipod"),
    ("alac", "ipod"),
    ("aac", "adts"),
    ("aac", "mpegts"),
    ("aac", "matroska"),
    ("tta", "tta"),
    ("wavpack", "wv"),
    ("pcm_s16be", "caf"),
    ("pcm_u8", "voc"),
]
FORMATS = [
    AudioFormat(3_000, 0.3, 900, min_secs=0.1, max_secs=3.0),
    AudioFormat(3_000, 0.3, 900, hop_secs=0.1, min_secs=0.1, max_secs=3.0),
    AudioFormat(8_000, 0.2, 1_600, hop_secs=0.45, min_secs=0.0, max_secs=20.0),
]


def originals():
    """Return a short file of each format, and some with chunks and tags around the samples."""
    rng = np.random.default_rng(0)
    files = []
    for kind, subtype, channels in KINDS:
        rate_hz = 16_000 if subtype == "OPUS" else 8_000
        noise = np.clip(0.2 * rng.standard_normal((4_800, channels)), -1, 1)
        stream = io.BytesIO()
        soundfile.write(stream, noise, rate_hz, format=kind, subtype=subtype)
        files.append(stream.getvalue())
    for codec, container in FFMPEG_KINDS:
        files.append(encode_with_ffmpeg(0.2 * noise[:, :1], 8_000, codec, container))
    files.append(encode_with_ffmpeg(0.2 * noise[:, :1], 8_000, "aac", "mp4", has_video=True))
    wav, mp3 = files[0], files[18]
    files.append(wav[:12] + b"LIST\x14\0\0\0INFOIART\x08\0\0\0somebody" + wav[12:])
    files.append(wav + 2 * b"LIST\xf7\xff\xff\xff")  # libsndfile 1.2.2 loops forever on this
    files.append(wav + b"id3 \x04\0\0\0ID3\x03" + b"TAG" + bytes(125))
    files.append(files[12] + files[12][:3_000] + files[12])  # joined, the middle one cut off
    files.append(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + mp3[mp3.index(mp3[:2], 4) :])
    return files


def outcome(data, audio_format):
    """Return "clips" and their number, or the reason and its detail, and check the clips."""
    count = 0
    try:
        for clip in decode_clips(io.BytesIO(data), audio_format):
            assert clip.waveform.shape == (audio_format.clip_samples,)
            assert clip.waveform.dtype == np.float32
            assert np.isfinite(clip.waveform).all()
            assert np.abs(clip.waveform).max() <= 1
            assert 0 < clip.valid_samples <= audio_format.clip_samples
            assert not clip.waveform[clip.valid_samples :].any()
            count += 1
    except BadAudioError as error:
        assert error.reason in REASONS
        return error.reason, error.detail
    assert count
    return "clips", count


def run_cases(seed, first, last):
    """Run in the child process: print the number of each case before it runs, and the counts at the end."""
    files = originals()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE_BYTES, MAX_ADDRESS_SPACE_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills the process even inside C code
    for audio_format in FORMATS:
        outcome(files[0], audio_format)  # so that what is loaded on first use does not count as growth
    initial_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = Counter()
    for number in range(first, last):
        os.write(1, b"%d\n" % number)
        rng = random.Random(f"{seed} {number}")
        data = mutate(rng, rng.choice(files), files)
        audio_format = rng.choice(FORMATS)
        signal.alarm(MAX_CASE_SECS)
        result = outcome(data, audio_format)
        assert outcome(data, audio_format) == result, "the same file has two outcomes"
        signal.alarm(0)
        counts[result[0]] += 1
    growth_bytes = 1_024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - initial_kib)
    assert growth_bytes < MAX_GROWTH_BYTES, f"{growth_bytes / 2**20:.0f} MiB more than for an intact file"
    print(json.dumps(counts))


def test_randomly_changed_files_give_clips_or_a_reason():
    command = [sys.executable, __file__, str(SEED), "0", str(CASES)]
    try:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        process = subprocess.run(command, capture_output=True, timeout=MAX_SECS, check=False, env=environment)
        end, stdout, stderr = f"exit code {process.returncode}", process.stdout, process.stderr
    except subprocess.TimeoutExpired as timeout:
        end, stdout, stderr = "timeout", timeout.stdout or b"", timeout.stderr or b""
    lines = stdout.decode(errors="replace").splitlines()  # including those that C code prints
    case = [line for line in lines if line.isdigit()][-1:]
    counts = [json.loads(line) for line in lines if line.startswith("{")]
    errors = stderr.decode(errors="replace")[-3_000:]
    assert counts and end == "exit code 0", f"{end} at case {case} of seed {SEED}:\n{errors}"
    assert {"clips", "corrupt", "truncated", "not_audio", "unsupported_codec", "non_finite"} <= set(counts[0])


if __name__ == "__main__":
    run_cases(*map(int, sys.argv[1:]))
