"""Time training on a dataset in a bucket that is larger than its cache, against the same dataset on local disk.

    first step   until the first batch of an empty cache, against the download of two shards
    speed        steps per second of a whole epoch, alternately local and from the bucket; of the preset `reference`
    resume       the batches from the middle of the epoch, which must be the same bits
    open         a `dataset.json` of 10,000 shards, in processes of their own

The shards are synthesized, and the bucket is the emulator on the same machine, whose CPU time training lacks.
`make bench-readahead` prints the tables as Markdown; `--shards` and `--shard-mb` set the size on disk, three times.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

RATE_HZ, CLIP_SAMPLES = 3_000, 8_192
GENRES = [f"genre{number}" for number in range(10)]
MANY_SHARDS = 10_000
OPEN = {
    "as a program without TensorFlow does": "find",
    "as a training does, until the first batches are made": "train",
}


def synthesize(folder: Path, shards: int, shard_mb: float) -> None:
    """Write a dataset of noise: `shards` files of the training split, and one of each other split."""
    import numpy as np

    from preprocessing.dataset import example, tfrecord
    from preprocessing.dataset.manifest import MANIFEST_NAME, Shard, shard_name

    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.2, 1 << 20).clip(-1, 1).astype(np.float32)
    records = max(1, round(shard_mb * 1e6 / (4 * CLIP_SAMPLES)))

    def write(split: str, index: int, count: int, clips: int) -> Shard:
        name = shard_name(split, index, count)
        digest, size = hashlib.sha256(), 0
        with (folder / name).open("wb") as file:
            for number in range(clips):
                start = int(rng.integers(len(noise) - CLIP_SAMPLES))
                genre = GENRES[number % len(GENRES)]
                attributes = example.Attributes(-14.0, 500.0, 120.0)
                audio, track = noise[start : start + CLIP_SAMPLES], f"{genre}.{split}{index:05d}{number:05d}"
                record = example.Record(audio, track, genre, RATE_HZ, CLIP_SAMPLES, "", "", attributes)
                data = tfrecord.frame(example.encode(record))
                digest.update(data)
                size += file.write(data)
        return Shard(name, split, clips, size, digest.hexdigest(), name, name)

    folder.mkdir(parents=True)
    files = [write("train", index, shards, records) for index in range(shards)]
    files += [write(split, 0, 1, 16) for split in ("validation", "test")]
    (folder / MANIFEST_NAME).write_bytes(manifest_of(files).to_json())


def manifest_of(files):
    """Return the manifest of some shards."""
    from preprocessing.dataset.manifest import Manifest

    counts = Counter[str]()
    for file in files:
        counts[file.split] += file.records
    return Manifest(
        sample_rate_hz=RATE_HZ,
        clip_secs=CLIP_SAMPLES / RATE_HZ,
        clip_samples=CLIP_SAMPLES,
        options={},
        genres=GENRES,
        shards=files,
        counts={split: {GENRES[0]: count} for split, count in counts.items()},
        recordings=dict(counts),
        quarantined={},
        attributes={},
        empirical_conditions=[],
        records_sha256="",
        inputs_fingerprint="",
    ).with_digest()


def start_bucket(objects: Path) -> subprocess.Popen:
    """Start the emulator in a process of its own, and let this process use it."""
    from preprocessing.commands.libraries import EMULATOR_CREDENTIALS

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "NO_GCE_CHECK": "true",
        "GOOGLE_CLOUD_PROJECT": "bench",
        "GOOGLE_APPLICATION_CREDENTIALS": str(EMULATOR_CREDENTIALS),
    }
    place = ["--host", "127.0.0.1", "--port", str(port), "--bucket", "bench", "--folder", str(objects)]
    emulator = Path(__file__).parents[2] / "k8s/emulator"
    return subprocess.Popen(
        [sys.executable, "-m", "storage_emulator", *place], cwd=emulator, stderr=subprocess.DEVNULL
    )


class Epochs:
    """Runs epochs of the preset `reference`, which takes a millisecond of an idle machine per clip, on a dataset."""

    def __init__(self, folder: Path, cache_gb: float) -> None:
        import tensorflow as tf

        from trainer import run_config
        from trainer.data.fetch import find_dataset
        from trainer.presets import PRESETS
        from trainer.training.train_step import TrainState
        from trainer.training.workers.distribution import Distribution

        _, self.manifest = find_dataset(str(folder))
        settings = {"batch_size": 32, "crop_samples": 0, "epochs": 1, "clip_cache_gb": 0.0}
        self.config = dataclasses.replace(PRESETS["reference"], cache_disk_gb=cache_gb, **settings)
        self._strategy = Distribution(None, 1).strategy
        metadata = run_config.metadata_of(self.manifest, str(folder))
        state, counter = TrainState(self.config, metadata, self._strategy), itertools.count()

        def step(batch) -> None:
            float(state.train_step(batch, tf.constant(next(counter)), tf.constant(0.5)).log_likelihood)

        self._step = step

    def run(
        self, uri: str, cache: Path, step: int = 0, steps: int | None = None, *, trains: bool = True
    ) -> dict:
        """Train `steps` steps of the epoch from `step`, or all, and measure them; or compute digests of the batches."""
        from trainer.data.distribute import distributed_iterator
        from trainer.data.training_data import TrainingData

        started, digests, first_secs = time.monotonic(), [], 0.0
        with (
            TrainingData(uri, self.manifest, self.config, range(1), cache) as clips,
            clips.begin(0, step, lambda: None) as reader,
        ):
            batches = distributed_iterator(reader, self._strategy) if trains else reader
            for batch in itertools.islice(batches, steps):
                if not first_secs:
                    first_secs = time.monotonic() - started
                    begun, waited_before, cpu_before = (
                        time.monotonic(),
                        reader.waited_secs,
                        time.process_time(),
                    )
                if trains:
                    self._step(batch)
                else:
                    digests.append(hashlib.sha256(batch.audio.numpy().tobytes()).hexdigest())
            secs = time.monotonic() - begun
            waited, cpu = (reader.waited_secs - waited_before) / secs, time.process_time() - cpu_before
        return {"first": first_secs, "secs": secs, "waited": waited, "cpu": cpu, "digests": digests}


def bench_training(work: Path, args: argparse.Namespace) -> None:
    """Print the tables of the training."""
    from trainer.data.fetch import find_dataset
    from trainer.runs.storage import GcsPrefix

    local, bucket = work / "local", "gs://bench/data"
    synthesize(local, args.shards, args.shard_mb)
    names = sorted(path.name for path in local.iterdir())
    GcsPrefix(bucket).upload(names, local)
    _, manifest = find_dataset(bucket)
    total_gb = sum(shard.bytes for shard in manifest.shards) / 1e9
    cache_gb = args.cache_gb or total_gb / 4
    two = [shard.name for shard in manifest.split_shards("train")[:2]]
    two_secs = []
    for turn in range(3):
        started = time.monotonic()
        GcsPrefix(bucket).download(two, work / f"two-{turn}")
        two_secs.append(time.monotonic() - started)
    epochs = Epochs(local, cache_gb)
    epochs.run(str(local), work / "cache-warm", steps=3)  # compiles the step
    results: dict[str, list[dict]] = {"local": [], "bucket": []}
    for turn in range(args.turns):
        for name, uri in (("local", str(local)), ("bucket", bucket)):
            cache = work / f"cache-{name}-{turn}"
            results[name].append(epochs.run(uri, cache))
            used = sum(path.stat().st_size for path in cache.glob("datasets/*/*"))
            assert used <= cache_gb * 1e9, "the cache exceeds its size"
            shutil.rmtree(cache)
    print(f"\n{args.shards} shards, {total_gb:.2f} GB, cache {cache_gb:.2f} GB, {args.turns} turns\n")
    print("| | s |\n|---|---:|")
    print(f"| download of two shards | {statistics.median(two_secs):.2f} |")
    print(f"| first batch, empty cache | {statistics.median(r['first'] for r in results['bucket']):.2f} |")
    print(f"| first batch, local | {statistics.median(r['first'] for r in results['local']):.2f} |")
    print("\n| an epoch | s | ratio | CPU s | ratio | waiting |\n|---|---:|---:|---:|---:|---:|")
    for name, runs in results.items():
        cells = []
        for key in ("secs", "cpu"):
            ratios = (run[key] / base[key] for run, base in zip(runs, results["local"], strict=True))
            cells += [
                f"{statistics.median(run[key] for run in runs):.1f}",
                f"{statistics.median(ratios):.3f}",
            ]
        print(f"| {name} | {' | '.join(cells)} | {statistics.median(run['waited'] for run in runs):.1%} |")
    whole = epochs.run(str(local), work / "cache-whole", trains=False)
    middle = len(whole["digests"]) // 2
    resumed = epochs.run(bucket, work / "cache-resumed", middle, trains=False)
    is_same = resumed["digests"] == whole["digests"][middle:]
    print(
        f"\nresumed at step {middle} of {len(whole['digests'])}: first batch after {resumed['first']:.2f} s, ",
        end="",
    )
    print(f"{'the same bits' if is_same else 'OTHER BITS'}")


def bench_opening(work: Path) -> None:
    """Print what opening many shards takes."""
    from preprocessing.dataset.manifest import MANIFEST_NAME, Shard, shard_name

    folder = work / "many"
    folder.mkdir()
    names = [("train", index, MANY_SHARDS) for index in range(MANY_SHARDS)]
    names += [("validation", 0, 1), ("test", 0, 1)]
    digest = hashlib.sha256(b"").hexdigest()
    files = [Shard(shard_name(*name), name[0], 100, 36_000_000, digest, digest, digest) for name in names]
    (folder / MANIFEST_NAME).write_bytes(manifest_of(files).to_json())
    print(f"\n| {MANY_SHARDS:,} shards | s | CPU s | MB more | peak MB |\n|---|---:|---:|---:|---:|")
    for title, phase in OPEN.items():
        command = [sys.executable, __file__, "--open", phase, "--folder", str(folder)]
        cells = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"| {title} | {cells.strip()} |", flush=True)


def open_many(phase: str, folder: Path) -> None:
    """Do a phase of `OPEN`, and print its seconds, without imports, and this process's memory."""
    from trainer.config import Config
    from trainer.data.fetch import find_dataset, open_shards

    if phase == "train":
        import tensorflow as tf

        from trainer.data.training_data import TrainingData

        tf.constant(1)  # initializes TensorFlow
    before_mb, started, cpu = peak_mb(), time.monotonic(), time.process_time()
    uri, manifest = find_dataset(str(folder))
    if phase == "train":
        data = TrainingData(uri, manifest, Config(), range(1), folder / "cache")
        next(data._datasets(range(1, 16), 0, [frozenset()]))()
    else:
        files = manifest.split_shards("train")
        source = open_shards(uri, manifest, folder / "cache", 8 * 10**9)
        source.add_stream(files, [number / len(files) for number in range(len(files))], 15)
    secs, cpu_secs = time.monotonic() - started, time.process_time() - cpu
    print(f"{secs:.1f} | {cpu_secs:.1f} | {peak_mb() - before_mb:.0f} | {peak_mb():.0f}")


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=32, help="of the training split (default: %(default)s)")
    parser.add_argument("--shard-mb", type=float, default=32.0, help="size of each (default: %(default)s)")
    parser.add_argument("--cache-gb", type=float, help="size of the cache (default: a fourth of the dataset)")
    parser.add_argument("--turns", type=int, default=3, help="timings of each epoch (default: %(default)s)")
    parser.add_argument("--open", choices=OPEN.values(), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        open_many(args.open, args.folder)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        emulator = start_bucket(Path(folder) / "objects")
        try:
            bench_opening(Path(folder))
            bench_training(Path(folder), args)
        finally:
            emulator.terminate()
            emulator.wait()


if __name__ == "__main__":
    main()
