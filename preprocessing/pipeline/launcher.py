"""One run of the job as its user sees it: plan, recognise finished work, run with a progress line, sum up."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState, create_runner
from tqdm import tqdm

from preprocessing.cli import SentenceParser
from preprocessing.dataset.manifest import NAME, QUARANTINE_NAME, Manifest, from_json
from preprocessing.dataset.splits import REFERENCE_IN_BOTH, SPLITS
from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError
from preprocessing.options import Options
from preprocessing.pipeline import commit, graph, incremental
from preprocessing.pipeline.commit import Outcome
from preprocessing.pipeline.plan import Plan, make_plan
from preprocessing.pipeline.shards import ShardResult
from preprocessing.storage import beam_files, lease

ALL_CORES = "--direct_num_workers=0"
LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner")


def run(options: Options, beam_flags: list[str]) -> None:
    """Runs the job and prints its summary.

    Raises:
        CommandError: A flag that Beam does not know, or another job at work on the output (2); no input, no
            recording, or too many bad ones (3); storage failed (4).
    """
    beam_flags = complete_beam_flags(beam_flags)
    FileSystems.set_options(PipelineOptions(beam_flags))  # this process reads and writes files too
    plan = make_plan(options)
    for line in _warnings(options):
        print(line)
    if template := PipelineOptions(beam_flags).view_as(GoogleCloudOptions).template_location:
        place = beam_files.join(options.output, f".template-{uuid.uuid4().hex[:12]}")
        graph.submit(options, plan, [], place, beam_flags)
        print(
            f"{template}: a template of the job; {place} holds its clip list and must stay until it has run"
        )
        return
    with lease.hold(options.output), _staging(options.output) as staging:
        made = incremental.committed(options)
        if made and incremental.is_same_work(*made, options, plan):
            print(f"{options.output} is up to date: same inputs and options, nothing to do")
            folder, manifest = made
            recordings = sum(map(manifest.split_records, SPLITS))
            _refuse_bad(options, Outcome(folder, recordings, manifest.quarantined))
        else:
            kept = incremental.reusable_shards(*made, options, plan) if made else []
            folder = _make(options, plan, kept, staging, beam_flags)
    uri = beam_files.join(folder, NAME)
    print(summary(from_json(beam_files.read(uri), uri), folder))


@contextlib.contextmanager
def _staging(output: str) -> Iterator[str]:
    """A folder for the own files of the job that holds `output`; a dead job's goes before, its own after."""
    root = beam_files.join(output, ".staging")
    beam_files.delete_folder(root)
    try:
        yield beam_files.join(root, uuid.uuid4().hex[:12])
    finally:
        beam_files.delete_folder(root)


def _make(options: Options, plan: Plan, kept: list[ShardResult], staging: str, beam_flags: list[str]) -> str:
    """Runs the pipeline; returns the dataset's folder."""
    if kept:
        print(f"{len(kept)} of {len(plan.listings)} shards are kept: none of their files has changed")
    with _progress(staging, len(plan.clips), 4 * options.audio.clip_samples):
        _wait(graph.submit(options, plan, kept, staging, beam_flags))
    outcome = commit.read_outcome(staging)
    _refuse_bad(options, outcome)
    return outcome.folder


def _refuse_bad(options: Options, outcome: Outcome) -> None:
    """Ends the job with what is wrong with the input, if that is too much.

    Raises:
        CommandError: No good recording, or too many bad ones (exit code 3).
    """
    quarantine = beam_files.join(outcome.folder or options.output, QUARANTINE_NAME)
    reasons = ", ".join(f"{reason} {count}" for reason, count in outcome.reasons.items())
    if not outcome.recordings:
        message = f"no recording could be read ({reasons}): see {quarantine}"
        raise CommandError(message, BAD_DATA)
    if outcome.bad_fraction() > options.max_bad_fraction:
        raise CommandError(
            f"{outcome.bad_fraction():.0%} of the recordings are bad, and --max-bad-fraction allows "
            f"{options.max_bad_fraction:.0%} ({reasons}): see {quarantine}",
            BAD_DATA,
        )


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
    if options.split == "reference":
        numbers = ", ".join(map(str, REFERENCE_IN_BOTH))
        yield (
            f"warning: the reference's lists share track number {numbers}: "
            "it is trained on and tested on, so the test figures flatter the model"
        )


def _wait(result: PipelineResult) -> None:
    state = result.wait_until_finish()
    if state not in (PipelineState.DONE, None):
        raise CommandError(f"the job ended in state {state}: see the runner's log", STORAGE_FAILED)


@contextlib.contextmanager
def _progress(staging: str, clips: int, record_bytes: int) -> Iterator[None]:
    """A bar over the clips while the job runs, on any runner: it measures what lies in `staging`."""
    finished = threading.Event()
    pattern = beam_files.join(beam_files.literal(staging), "*.tfrecord")
    with tqdm(total=clips, desc="preprocessing", unit=" clips", dynamic_ncols=True) as bar:

        def watch() -> None:
            while not finished.wait(0.5 if "://" not in staging else 5.0):
                with contextlib.suppress(OSError):  # a listing that fails is one that the next replaces
                    done = sum(file.size_in_bytes for file in beam_files.find(pattern)) // record_bytes
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
