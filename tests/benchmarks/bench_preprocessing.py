"""Compare the Beam job with alternatives, each in a process of its own.

    decoding      librosa.load alone, the minimum for any job
    loop          librosa.load, this project's record and tf.io.TFRecordWriter in a plain loop
    typical Beam  a common way to write the pipeline: Reshuffle of audio, FloatList(value=...), WriteToTFRecord
    this job      with one worker and with two

Times include imports. They do not include reading from disk, since the corpus is read once before each run.
`make bench-preprocessing` prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

RATE_HZ, CLIP_SECS, SOURCE_RATE_HZ = 3_000, 30.0, 22_050
REPEATED_VARIANTS = ("decoding", "this job, 1 worker", "this job, 2 workers")
SINGLE_VARIANTS = ("loop", "typical Beam")
VARIANTS = (*REPEATED_VARIANTS, *SINGLE_VARIANTS)


class Cost(NamedTuple):
    """What a run of a variant took."""

    wall_secs: float
    cpu_secs: float
    peak_mb: float  # of its largest process


def write_corpus(folder: Path, clips: int) -> None:
    """Write WAV files in GTZAN's format and layout, all different: noise whose level changes twice per second."""
    import numpy as np
    import soundfile

    for number in range(clips):
        path = folder / f"genre{number % 10}" / f"genre{number % 10}.{number:05d}.wav"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        audio = rng.normal(0, 0.1, int(CLIP_SECS * SOURCE_RATE_HZ)).astype(np.float32)
        audio *= np.repeat(rng.uniform(0.1, 1.5, 60), SOURCE_RATE_HZ // 2).astype(np.float32)
        soundfile.write(path, np.clip(audio, -1, 1), SOURCE_RATE_HZ, subtype="PCM_16")


def decode(corpus: Path, output: Path) -> None:
    """Decode every file, which all variants do."""
    import librosa

    for path in sorted(corpus.glob("*/*.wav")):
        librosa.load(path, sr=RATE_HZ, duration=CLIP_SECS)


def loop(corpus: Path, output: Path) -> None:
    """Write records in one process without Beam; they have no measured attributes, which saves time."""
    import librosa
    import tensorflow as tf

    from preprocessing.dataset import example

    with tf.io.TFRecordWriter(str(output / "train.tfrecord")) as writer:
        for path in sorted(corpus.glob("*/*.wav")):
            audio, _ = librosa.load(path, sr=RATE_HZ, duration=CLIP_SECS)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            attributes = example.Attributes(0.0, 0.0, 0.0, 0.0)
            identity = (digest, str(path), attributes, example.Key("", 0.0))
            record = example.Record(audio, path.stem, path.parent.name, RATE_HZ, len(audio), *identity)
            writer.write(example.encode(record))


def typical_beam(corpus: Path, output: Path) -> None:
    """Pass audio through a shuffle, and build records value by value."""
    import apache_beam as beam
    import librosa
    import tensorflow as tf

    def load(path: str) -> tuple[str, object]:
        return path, librosa.load(path, sr=RATE_HZ, duration=CLIP_SECS)[0]

    def to_example(element: tuple[str, object]) -> bytes:
        path, audio = element
        feature = {
            "audio": tf.train.Feature(float_list=tf.train.FloatList(value=audio)),
            "genre": tf.train.Feature(bytes_list=tf.train.BytesList(value=[Path(path).parent.name.encode()])),
        }
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create([str(path) for path in sorted(corpus.glob("*/*.wav"))])
            | "Spread paths" >> beam.Reshuffle()
            | beam.Map(load)
            | "Spread audio" >> beam.Reshuffle()
            | beam.Map(to_example)
            | beam.io.WriteToTFRecord(str(output / "train"), file_name_suffix=".tfrecord", num_shards=8)
        )


def measure(variant: str, corpus: Path, output: Path) -> Cost:
    """Run a variant."""
    command = [
        sys.executable,
        __file__,
        "--variant",
        variant,
        "--corpus",
        str(corpus),
        "--output",
        str(output),
    ]
    if variant.startswith("this job"):
        workers = variant.split()[2]
        command = [sys.executable, "-m", "preprocessing", "--input", str(corpus), "--output", str(output)]
        command += ["--direct_num_workers", workers]
    for path in corpus.glob("*/*.wav"):
        path.read_bytes()
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{variant} failed:\n{stderr.decode()[-2000:]}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    """Print a table for each number of clips."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[400])
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "gtzan-cvae-bench")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--variant", choices=("decoding", *SINGLE_VARIANTS))
    parser.add_argument(
        "--turns", type=int, default=3, help="runs of the job and of decoding, in turns; medians count"
    )
    flags = parser.parse_args()
    if flags.variant:
        {"decoding": decode, "loop": loop, "typical Beam": typical_beam}[flags.variant](
            flags.corpus, flags.output
        )
        return
    for clips in flags.clips:
        corpus = flags.corpus / str(clips)
        write_corpus(corpus, clips)
        print(f"\n{clips:,} clips of {CLIP_SECS:g} s, {os.cpu_count()} cores\n")
        print("| | wall s | clips/s | CPU s | CPU ms/clip | relative to decoding | peak MB |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        costs: dict[str, list[Cost]] = {variant: [] for variant in VARIANTS}
        for variants, turns in ((REPEATED_VARIANTS, flags.turns), (SINGLE_VARIANTS, 1)):
            for _ in range(turns):
                for variant in variants:
                    output = Path(tempfile.mkdtemp(prefix="gtzan-cvae-bench-"))
                    costs[variant].append(measure(variant, corpus, output))
                    shutil.rmtree(output)
            for variant in variants:
                print(_row(variant, costs[variant], costs["decoding"], clips), flush=True)


def _row(variant: str, costs: list[Cost], decoding: list[Cost], clips: int) -> str:
    # Neighbours in time: the speed of a shared machine changes by the minute.
    ratio = statistics.median(
        cost.cpu_secs / base.cpu_secs for cost, base in zip(costs, decoding, strict=False)
    )
    wall_secs, cpu_secs, peak_mb = map(statistics.median, zip(*costs, strict=True))
    return (
        f"| {variant} | {wall_secs:.1f} | {clips / wall_secs:.0f} | {cpu_secs:.1f} | "
        f"{1000 * cpu_secs / clips:.1f} | {ratio:.2f} | {peak_mb:.0f} |"
    )


if __name__ == "__main__":
    main()
