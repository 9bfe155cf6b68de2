"""Time what follows decoding for up to a million recordings, each phase in a process of its own.

    plan     list the source files, assign them to shards and stage the list
    find     find the duplicates
    finish   find them, drop them, write the lists and commit the dataset

Fingerprints are synthesized: their distances to the nearest other one are those of real music. One in a hundred
recordings is a copy, half of them identical files and half as a codec would leave them. Clips are short, since only
those of candidates are read. `make bench-scale` prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

COPIES_FRACTION = 0.01
RECORDINGS_PER_SHARD = 2_000
SAMPLE_RATE_HZ, CLIP_SAMPLES = 1_000, 128
PHASES = {
    "plan": "plan",
    "find": "find duplicates",
    "finish": "find and drop duplicates, write lists, commit",
}


class Cost(NamedTuple):
    """What a phase took."""

    wall_secs: float
    cpu_secs: float
    peak_mb: float


def synthesize(count: int, seed: int = 0):
    """Return fingerprints like those of music: `[count, FINGERPRINT_BYTES]` uint8.

    Levels of 32 slices wander slowly, more in some recordings than in others, and those of the first difference follow
    them. The parameters were fitted to 476 real clips.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    slices = 32
    correlation = np.clip(rng.normal(0.45, 0.35, count), -0.3, 0.95)

    def wander():
        steps = rng.normal(size=(slices, count))
        for index in range(1, slices):
            steps[index] = correlation * steps[index - 1] + np.sqrt(1 - np.square(correlation)) * steps[index]
        return steps.T

    def relative_to_mean_power(levels):
        return levels - 20 * np.log10(np.mean(10 ** (levels / 20), axis=1, keepdims=True))

    depth = 4.1 * np.exp(0.7 * rng.normal(size=(count, 1)))
    likeness = np.clip(rng.normal(0.7, 0.25, (count, 1)), 0, 0.98)
    first = wander()
    second = likeness * first + np.sqrt(1 - np.square(likeness)) * wander()
    first = depth * first + rng.normal(0, 1.5, first.shape)
    second = 1.18 * depth * np.exp(0.3 * rng.normal(size=(count, 1))) * second + rng.normal(
        0, 1.5, first.shape
    )
    brightness = rng.normal(152, 8, (count, 1))
    levels = np.hstack([relative_to_mean_power(first) + 160, relative_to_mean_power(second) + brightness])
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def write_shards(folder: Path, count: int) -> None:
    """Write staged shards of `count` recordings, and a list of them."""
    import numpy as np

    from preprocessing.dataset import example, tfrecord
    from preprocessing.dataset.records import RecordEntry
    from preprocessing.dataset.splits import Track, hash_splits
    from preprocessing.pipeline.plan import shard_of
    from preprocessing.pipeline.shard_files import ShardDescription, ShardWriter, StagedShard

    rng = np.random.default_rng(1)
    copies = round(COPIES_FRACTION * count)
    fingerprints = synthesize(count)
    originals = np.arange(count)
    originals[count - copies :] = rng.choice(count - copies, copies, replace=False)
    is_identical = rng.random(count) < 0.5
    noise = rng.choice([-1, 0, 1], fingerprints[-copies:].shape, p=[0.1, 0.8, 0.1])
    noise[is_identical[-copies:]] = 0
    fingerprints[-copies:] = np.clip(fingerprints[originals[-copies:]] + noise, 0, 255)
    shards: dict[str, list[int]] = {}
    for number in range(count):
        track_id = f"genre{number % 10}.{number:07d}"
        (split,) = hash_splits(Track(track_id, "", None))
        shards.setdefault(shard_of(track_id, split, train_shards(count)), []).append(number)
    folder.mkdir(parents=True)
    staged = []
    for name, numbers in sorted(shards.items()):
        writer, entries = ShardWriter(str(folder), name), []
        for number in numbers:
            original = int(originals[number])
            audio = np.random.default_rng(original).normal(0, 0.1, CLIP_SAMPLES).astype(np.float32)
            content = original if is_identical[number] else number
            track_id, genre = f"genre{number % 10}.{number:07d}", f"genre{number % 10}"
            key = example.Key("A minor", 0.25)
            attributes = example.Attributes(-20.0 - number % 7, 900.0 + number % 11, 120.0, 0.5)
            digest = hashlib.sha256(str(content).encode()).hexdigest()
            uri = f"/music/{genre}/{number:07d}.wav"
            record = example.Record(
                audio, track_id, genre, SAMPLE_RATE_HZ, CLIP_SAMPLES, digest, uri, attributes, key
            )
            writer.append(tfrecord.frame(example.encode(record)))
            hexadecimal = fingerprints[number].tobytes().hex()
            place = (genre, name.partition("-")[0], name, 0.0, CLIP_SAMPLES)
            entries.append(
                RecordEntry(track_id, track_id, *place, *attributes, *key, uri, digest, hexadecimal)
            )
        description = ShardDescription(entries, []).write(str(folder), name)
        staged.append(StagedShard(name, *writer.close(), description))
    (folder / "shards.jsonl").write_text("".join(f"{shard.to_json()}\n" for shard in staged))
    (folder / "rejected.jsonl").write_text("")
    (folder / "listings.json").write_text(json.dumps(dict.fromkeys(shards, "")))


def write(folder: Path, count: int) -> str:
    """Write the staged shards, and empty source files, of which the planner reads only the names."""
    write_shards(folder / "staged", count)
    for number in range(count):
        path = folder / "in" / f"genre{number % 10}" / f"{number:07d}.wav"
        if number < 10:
            path.parent.mkdir(parents=True)
        path.touch()
    return ""


def train_shards(count: int) -> int:
    """Return the number of training shards."""
    return max(1, count // RECORDINGS_PER_SHARD)


def plan(folder: Path, count: int) -> str:
    """Plan a job and stage the plan."""
    from preprocessing.options import Options
    from preprocessing.pipeline import staging
    from preprocessing.pipeline.plan import make_plan

    options = Options(input=str(folder / "in"), output=str(folder / "out"), shards=train_shards(count))
    made = make_plan(options)
    staging.write_plan(made, [], str(folder / "planned"))
    return f"{len(made.source_files):,} files"


def run_job(folder: Path, count: int, finishes: bool = False) -> str:
    """Run the steps after decoding on two workers."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from preprocessing.options import AudioFormat, Options
    from preprocessing.pipeline import graph
    from preprocessing.pipeline.beam_flags import complete_beam_flags
    from preprocessing.pipeline.deduplicate import FindDuplicates
    from preprocessing.pipeline.shard_files import StagedShard

    staging = folder / "staged"
    audio = AudioFormat(
        sample_rate_hz=SAMPLE_RATE_HZ, clip_secs=0.128, clip_samples=CLIP_SAMPLES, min_secs=0.0
    )
    options = Options(input="-", output=str(folder / "out"), audio=audio, shards=train_shards(count))
    listed = [StagedShard.from_json(line) for line in (staging / "shards.jsonl").read_text().splitlines()]
    flags = PipelineOptions(complete_beam_flags(["--direct_num_workers=2"]))
    with beam.Pipeline(options=flags) as pipeline:
        shards = pipeline | beam.Create([shard.keyed() for shard in listed])
        if finishes:
            graph.finish(shards, options, "", count, str(staging))
        else:
            found = shards | FindDuplicates(SAMPLE_RATE_HZ, count) | beam.combiners.Count.Globally()
            _ = found | beam.io.WriteToText(str(folder / "found"), shard_name_template="")
    if finishes:
        lines = (folder / "out/quarantine.jsonl").read_text().splitlines()
        return f"{len(lines):,} copies"
    return f"{int((folder / 'found').read_text()):,} copies"


def measure(phase: str, folder: Path, count: int) -> tuple[str, Cost]:
    """Run a phase; return what it reports and what it took."""
    command = [
        sys.executable,
        __file__,
        "--phase",
        phase,
        "--folder",
        str(folder),
        "--recordings",
        str(count),
    ]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{phase} failed:\n{errors[-2000:]}")
    cost = Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    return output.strip(), cost


def main() -> None:
    """Print a row for each phase and number of recordings, and the exponent of growth of each phase."""
    from preprocessing.commands.libraries import configure

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recordings", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--phase", choices=("write", *PHASES))
    flags = parser.parse_args()
    if flags.phase:
        configure()
        (count,) = flags.recordings
        runs = {
            "write": write,
            "plan": plan,
            "find": run_job,
            "finish": functools.partial(run_job, finishes=True),
        }
        print(runs[flags.phase](flags.folder, count))
        return
    print("| | recordings | result | wall s | CPU s | peak MB |\n|---|---:|---:|---:|---:|---:|", flush=True)
    costs: dict[str, list[Cost]] = {phase: [] for phase in PHASES}
    for count in flags.recordings:
        folder = Path(tempfile.mkdtemp(prefix="gtzan-cvae-bench-", dir=flags.folder))
        measure("write", folder, count)
        for phase, title in PHASES.items():
            result, cost = measure(phase, folder, count)
            costs[phase].append(cost)
            numbers = f"{cost.wall_secs:.1f} | {cost.cpu_secs:.1f} | {cost.peak_mb:.0f}"
            print(f"| {title} | {count:,} | {result} | {numbers} |", flush=True)
        shutil.rmtree(folder)
    if len(flags.recordings) > 1:
        growth = math.log(flags.recordings[-1] / flags.recordings[0])
        for phase, title in PHASES.items():
            first, last = costs[phase][0], costs[phase][-1]
            wall = math.log(last.wall_secs / first.wall_secs) / growth
            cpu = math.log(last.cpu_secs / first.cpu_secs) / growth
            print(f"{title}: exponent of growth {wall:.2f} (wall), {cpu:.2f} (CPU)")


if __name__ == "__main__":
    main()
