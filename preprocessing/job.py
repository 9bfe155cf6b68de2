"""One run of the job as its user sees it: plan, recognise finished work, run with a progress line, sum up."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState, create_runner
from tqdm import tqdm

from preprocessing import files, pipeline
from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError, SentenceParser
from preprocessing.gtzan import SEED_IN_BOTH, SPLITS
from preprocessing.manifest import NAME, QUARANTINE_NAME, Manifest, from_json
from preprocessing.options import Options
from preprocessing.sources import list_clips

ALL_CORES = "--direct_num_workers=0"
LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner")


def run(options: Options, beam_flags: list[str]) -> None:
    """Runs the job and prints its summary.

    Raises:
        CommandError: A flag that Beam does not know (2); no input, no clip, or no good clip (3).
    """
    beam_flags = complete_beam_flags(beam_flags)
    FileSystems.set_options(PipelineOptions(beam_flags))  # this process reads and writes files too
    listing = list_clips(options)
    for line in _warnings(options):
        print(line)
    if (made := _committed(options)) and _is_same_work(made, options, listing.fingerprint):
        print(f"{options.output} is up to date: same inputs and options, nothing to do")
        print(summary(made, options.output))
        return
    if template := PipelineOptions(beam_flags).view_as(GoogleCloudOptions).template_location:
        plan = files.join(options.output, f".template-{uuid.uuid4().hex[:12]}")
        pipeline.submit(options, listing, plan, beam_flags)
        print(f"{template}: a template of the job; {plan} holds its clip list and must stay until it has run")
        return
    staging_root = files.join(options.output, ".staging")
    _delete_stale(staging_root)
    staging = files.join(staging_root, uuid.uuid4().hex[:12])
    try:
        with _progress(staging, len(listing.clips), 4 * options.audio.clip_samples):
            _wait(pipeline.submit(options, listing, staging, beam_flags))
        good_shards = int(files.read(files.join(staging, pipeline.OUTCOME)))
    finally:
        files.delete_folder(staging)
        if not files.find(files.join(files.literal(staging_root), "**")):
            files.delete([staging_root])
    made = _committed(options)
    if not good_shards or made is None:
        quarantine = files.join(options.output, QUARANTINE_NAME)
        raise CommandError(f"none of {len(listing.clips)} clips could be read: see {quarantine}", BAD_DATA)
    print(summary(made, options.output))


def complete_beam_flags(flags: list[str]) -> list[str]:
    """Checks `flags` against Beam's own options and fills in the local runner on all cores.

    Raises:
        CommandError: Beam does not know one of them (exit code 2).
    """
    parser = SentenceParser(prog="python -m preprocessing", add_help=False, allow_abbrev=False)
    for group in sorted({PipelineOptions, *_subclasses(PipelineOptions)}, key=lambda group: group.__name__):
        group._add_argparse_args(parser)  # the hook by which every group declares its flags
    known, unknown = parser.parse_known_args(flags)
    if unknown:
        raise CommandError(f"unknown argument {unknown[0]}: neither this program nor Beam has it", USAGE)
    _check_runner(known.runner)
    if known.runner is None:
        # Beam's default runner would first try to download another one.
        flags = [*flags, "--runner=FnApiRunner"]
    if known.runner in (None, *LOCAL_RUNNERS) and known.direct_running_mode == "in_memory":
        workers = [] if any(flag.startswith("--direct_num_workers") for flag in flags) else [ALL_CORES]
        flags = [*flags, *workers, "--direct_running_mode=multi_threading"]
    return flags


def _check_runner(name: str | None) -> None:
    try:
        create_runner(name or "FnApiRunner")
    except (ValueError, ImportError, AttributeError) as error:
        raise CommandError(f"--runner {name}: {error}", USAGE) from error


def summary(manifest: Manifest, output: str) -> str:
    """The table that a job ends with."""
    lines = [f"{'split':<12}{'clips':>7}{'shards':>8}{'MB':>9}  genres"]
    for split in SPLITS:
        shards = manifest.split_shards(split)
        genres = ", ".join(f"{genre} {clips}" for genre, clips in manifest.counts[split].items())
        megabytes = sum(shard.bytes for shard in shards) / 1e6
        lines.append(
            f"{split:<12}{manifest.split_records(split):>7}{len(shards):>8}{megabytes:>9.1f}  {genres}"
        )
    reasons = ", ".join(f"{reason} {count}" for reason, count in manifest.quarantined.items())
    lines.append(f"{'quarantined':<12}{sum(manifest.quarantined.values()):>7}{'':>19}{reasons}")
    lines.append(f"{output}: digest {manifest.digest[:12]}")
    return "\n".join(lines)


def _warnings(options: Options) -> Iterator[str]:
    if options.split == "seed":
        numbers = ", ".join(map(str, SEED_IN_BOTH))
        yield (
            f"warning: the seed's lists share track number {numbers}: "
            "it is trained on and tested on, so the test figures flatter the model"
        )


def _committed(options: Options) -> Manifest | None:
    """The dataset that is there; a damaged or foreign manifest counts as none, and is made again."""
    uri = files.join(options.output, NAME)
    try:
        return from_json(files.read(uri), uri) if FileSystems.exists(uri) else None
    except CommandError:
        return None


def _is_same_work(made: Manifest, options: Options, fingerprint: str) -> bool:
    if "unreadable" in made.quarantined:  # a file system may have been ill; it is worth another try
        return False
    shards_there = all(FileSystems.exists(files.join(options.output, shard.name)) for shard in made.shards)
    same_options = made.options == options.that_shape_the_data()
    return shards_there and same_options and made.inputs_fingerprint == fingerprint


def _delete_stale(staging_root: str) -> None:
    """What a killed job left a day ago or earlier; anything younger may belong to one that runs."""
    found = files.find(files.join(files.literal(staging_root), "**"))
    yesterday = time.time() - 24 * 3600
    files.delete([file.path for file in found if file.last_updated_in_seconds < yesterday])


def _wait(result: PipelineResult) -> None:
    state = result.wait_until_finish()
    if state not in (PipelineState.DONE, None):
        raise CommandError(f"the job ended in state {state}: see the runner's log", STORAGE_FAILED)


@contextlib.contextmanager
def _progress(staging: str, clips: int, record_bytes: int) -> Iterator[None]:
    """A bar over the clips while the job runs, on any runner: it measures what lies in `staging`."""
    finished = threading.Event()
    pattern = files.join(files.literal(staging), "*.tfrecord")
    with tqdm(total=clips, desc="preprocessing", unit=" clips", dynamic_ncols=True) as bar:

        def watch() -> None:
            while not finished.wait(0.5 if "://" not in staging else 5.0):
                with contextlib.suppress(OSError):  # a listing that fails is one that the next replaces
                    done = sum(file.size_in_bytes for file in files.find(pattern)) // record_bytes
                    bar.update(max(0, min(done, clips) - bar.n))  # the commit empties `staging` again

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
        bar.update(clips - bar.n)


def _subclasses(group: type) -> Iterator[type]:
    for subclass in group.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
