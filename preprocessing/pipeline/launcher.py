"""Run one job: plan, reuse finished work, run the pipeline with its progress, log a summary."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import uuid
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineState

from preprocessing import event_log
from preprocessing.dataset import versions
from preprocessing.dataset.forget import read_forgotten
from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest
from preprocessing.dataset.output import check_output
from preprocessing.dataset.quarantine import QUARANTINE_NAME
from preprocessing.dataset.splits import MIN_TEST_RECORDINGS, REFERENCE_IN_BOTH, SPLITS
from preprocessing.errors import CommandError, DataError, StorageError, UsageError
from preprocessing.options import Options
from preprocessing.pipeline import graph, incremental, staging
from preprocessing.pipeline.beam_flags import complete_beam_flags
from preprocessing.pipeline.dataflow import dataflow_errors
from preprocessing.pipeline.plan import Plan, make_plan
from preprocessing.pipeline.shard_files import DESCRIPTION_ENDING, StagedShard
from preprocessing.pipeline.staging import Outcome
from preprocessing.progress import Progress
from preprocessing.sources.exclusions import read_exclusions
from preprocessing.storage import beam_files, lease
from preprocessing.storage.gcs import await_credentials

LOST_WORKER = "Channel closed prematurely"  # of Beam's job server
MAX_ATTEMPTS = 3


def run(options: Options, beam_flags: list[str], exclude: str = "") -> None:
    """Run the job and log its summary.

    Args:
        options: The job.
        beam_flags: Flags for Beam.
        exclude: A file that lists what to leave out, or "".

    Raises:
        CommandError: Beam does not know a flag, or another job is writing to the output (exit code 2); the
            input is missing, or has no or too few good recordings (3); storage failed (4).
    """
    beam_flags = complete_beam_flags(beam_flags)
    await_credentials(options.input, options.output, exclude)
    FileSystems.set_options(PipelineOptions(beam_flags))  # this process reads and writes files, too
    exclusions = {*(read_exclusions(exclude) if exclude else ()), *read_forgotten(options.output).recordings}
    options = dataclasses.replace(options, exclusions=tuple(sorted(exclusions)))
    plan = make_plan(options)
    _log_warnings(options, plan)
    if template := PipelineOptions(beam_flags).view_as(GoogleCloudOptions).template_location:
        _write_template(template, options, plan, beam_flags)
        return
    with lease.acquire(options.output), staging.staging_folder(options.output) as folder:
        check_output(options.output)
        previous = incremental.find_committed(options)
        if previous and incremental.is_up_to_date(previous, options, plan):
            message = f"{options.output} is up to date: same inputs and options, nothing to do"
            event_log.log_event("up_to_date", message, output=options.output)
            if options.versioned:
                versions.confirm_latest(options.output)
            outcome = _outcome_of(previous)
        else:
            reused = incremental.reusable_shards(previous, options, plan, folder) if previous else []
            outcome = _run_pipeline(options, plan, reused, folder, beam_flags)
        _check_outcome(outcome, options)
    uri = beam_files.join(outcome.folder, MANIFEST_NAME)
    _log_dataset(Manifest.from_json(beam_files.read(uri), uri), outcome.folder)


def _log_warnings(options: Options, plan: Plan) -> None:
    if unused := plan.unused_exclusions:
        others = f" and {len(unused) - 1} other names" if len(unused) > 1 else ""
        message = f"--exclude lists {unused[0]}{others}, which the input does not have"
        event_log.log_event("unused_exclusions", message, event_log.WARNING, names=list(unused))
    if options.split == "reference":
        numbers = ", ".join(map(str, REFERENCE_IN_BOTH))
        event_log.log_event(
            "shared_tracks",
            f"the reference's lists share track number {numbers}: it is in the training and the test split, so test "
            "metrics are too optimistic",
            event_log.WARNING,
        )


def _write_template(template: str, options: Options, plan: Plan, beam_flags: list[str]) -> None:
    """Write a Dataflow template, and the files that its job will read."""
    folder = beam_files.join(options.output, f".template-{uuid.uuid4().hex[:12]}")
    with dataflow_errors(PipelineOptions(beam_flags)):
        _build(options, plan, [], folder, beam_flags).run()
    message = (
        f"{template}: a template of the job; {folder} holds its file list and must exist until it has run"
    )
    event_log.log_event("template", message, template=template)


def _outcome_of(dataset: incremental.CommittedDataset) -> Outcome:
    """Return the outcome of a job that would produce this dataset again."""
    folder, manifest = dataset
    return Outcome(folder, sum(manifest.recordings.values()), manifest.quarantined)


def _run_pipeline(
    options: Options, plan: Plan, reused: list[StagedShard], folder: str, beam_flags: list[str]
) -> Outcome:
    """Run the pipeline to its end, with `folder` for staged files."""
    if reused:
        message = f"{len(reused)} of {len(plan.listings)} shards are reused: their source files are unchanged"
        event_log.log_event("reused", message, reused_shards=len(reused), shards=len(plan.listings))
    clips, shards = len(plan.source_files), len(plan.listings)
    with (
        _progress(folder, clips, shards, record_bytes=4 * options.audio.clip_samples),
        dataflow_errors(PipelineOptions(beam_flags)),
    ):
        pipeline = _build(options, plan, reused, folder, beam_flags)
        state = _run_despite_lost_workers(pipeline)
    if state not in (PipelineState.DONE, None):
        raise StorageError(f"the job ended in state {state}: see the runner's log")
    return staging.read_outcome(folder)


def _build(
    options: Options, plan: Plan, reused: list[StagedShard], folder: str, beam_flags: list[str]
) -> beam.Pipeline:
    """Stage the plan, clear its file list and return the pipeline."""
    staging.write_plan(plan, reused, folder)
    recordings = len(plan.source_files)
    plan.source_files.clear()  # frees hundreds of bytes per file for local workers
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(beam_flags))
    except ValueError as error:  # for example a project or a bucket with an invalid name
        raise UsageError(str(error)) from error
    graph.build(pipeline, options, plan.fingerprint, recordings, folder)
    return pipeline


def _run_despite_lost_workers(pipeline: beam.Pipeline) -> str | None:
    """Run a pipeline and return its final state.

    Flink, Spark and Dataflow repeat what a worker was doing when it died. Beam's own job server gives up instead, and
    gets the job again: what the first attempt staged is not used.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            state: str | None = pipeline.run().wait_until_finish()
            return state
        except RuntimeError as error:
            if LOST_WORKER not in str(error):
                raise
            message = f"a worker of the runner died (attempt {attempt} of {MAX_ATTEMPTS})"
            event_log.log_event(
                "lost_worker", f"{message}: see the runner's log", event_log.WARNING, attempt=attempt
            )
    raise StorageError(f"{message}: give workers more memory, or run the same command again")


@contextlib.contextmanager
def _progress(folder: str, clips: int, shards: int, record_bytes: int) -> Iterator[None]:
    """Show the progress on any runner, by measuring the staged shards in `folder`; say when all are decoded."""
    finished = threading.Event()
    pattern = beam_files.join(beam_files.literal(folder), "*.tfrecord*")
    with Progress("preprocessing", clips, "clips", leave=True) as progress:

        def watch() -> None:
            while not finished.wait(0.5 if "://" not in folder else 5.0):
                with contextlib.suppress(OSError):  # a failed listing is retried at the next interval
                    sizes = {file.path: file.size_in_bytes for file in beam_files.find(pattern)}
                    if sum(path.endswith(DESCRIPTION_ENDING) for path in sizes) >= shards:
                        progress.note("finding duplicates")
                    done = sum(sizes[path] for path in sizes if path.endswith(".tfrecord")) // record_bytes
                    # Not less than before: the commit empties `folder` again.
                    progress.advance(max(0, min(done, clips) - progress.done))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
        progress.advance(clips - progress.done)


def _check_outcome(outcome: Outcome, options: Options) -> None:
    """Raise if no recording, or too small a fraction of them, could be used."""
    quarantine = beam_files.join(outcome.folder or options.output, QUARANTINE_NAME)
    reasons = _format_counts(outcome.reasons)
    if not outcome.recordings:
        raise DataError(f"no recording could be read ({reasons}): see {quarantine}")
    if outcome.bad_fraction > options.max_bad_fraction:
        raise DataError(
            f"{outcome.bad_fraction:.0%} of the recordings are bad, and `max_bad_fraction` allows "
            f"{options.max_bad_fraction:.0%} ({reasons}): see {quarantine}",
        )
    if not outcome.folder:
        raise _empty_split_error(outcome, options)


def _empty_split_error(outcome: Outcome, options: Options) -> CommandError:
    if options.split == "hash":
        message = (
            "there is only one recording, so none is left to test on: add recordings, at least three for a training, "
            "a validation and a test split"
        )
    else:
        message = (
            f"the {outcome.recordings} recordings are not in both the training and the test list of the reference: "
            "use `split` hash"
        )
    return DataError(message)


def _log_dataset(manifest: Manifest, folder: str) -> None:
    event_log.log_event(
        "dataset",
        summary(manifest, folder),
        dataset=manifest.digest,
        folder=folder,
        clips={split: manifest.clip_count(split) for split in SPLITS},
        quarantined=manifest.quarantined,
    )
    tested, recordings = manifest.recordings["test"], sum(manifest.recordings.values())
    if tested < MIN_TEST_RECORDINGS:
        event_log.log_event(
            "few_test_recordings",
            f"the test split has {tested} of the {recordings} recordings: with fewer than {MIN_TEST_RECORDINGS}, "
            "metrics are not reliable",
            event_log.WARNING,
            test_recordings=tested,
        )


def summary(manifest: Manifest, folder: str) -> str:
    """Return the table that is logged at the end of a job."""
    lines = [f"{'split':<12}{'clips':>7}{'shards':>8}{'MB':>9}  genres"]
    for split in SPLITS:
        shards = manifest.split_shards(split)
        megabytes = sum(shard.bytes for shard in shards) / 1e6
        genres = _format_counts(manifest.counts[split])
        lines.append(f"{split:<12}{manifest.clip_count(split):>7}{len(shards):>8}{megabytes:>9.1f}  {genres}")
    quarantined = sum(manifest.quarantined.values())
    lines.append(f"{'quarantined':<12}{quarantined:>7}{'':>19}{_format_counts(manifest.quarantined)}")
    lines.append(f"{folder}: digest {manifest.digest[:12]}")
    return "\n".join(lines)


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
