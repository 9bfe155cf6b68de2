"""The flags of Apache Beam: validation, and defaults for a run on the local machine."""

from __future__ import annotations

from collections.abc import Iterator

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner

from preprocessing.cli import SentenceParser
from preprocessing.errors import UsageError

LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner")
UNSUPPORTED_RUNNERS = {"DaskRunner": "in this version of Beam, it cannot group what it reads from text files"}
ALL_CORES = "--direct_num_workers=0"


def complete_beam_flags(flags: list[str]) -> list[str]:
    """Validate `flags` against Beam's own options; without a runner, add the local one on all cores.

    Raises:
        CommandError: Beam does not know a flag or the runner (exit code 2).
    """
    parser = SentenceParser(prog="python -m preprocessing", add_help=False, allow_abbrev=False)
    for group in sorted({PipelineOptions, *_subclasses(PipelineOptions)}, key=lambda group: group.__name__):
        group._add_argparse_args(parser)  # the hook by which each group of options declares its flags
    known, unknown = parser.parse_known_args(flags)
    if unknown:
        raise UsageError(f"unknown argument {unknown[0]}: neither this program nor Beam has it")
    _check_runner(known.runner)
    if known.runner is None:
        # Beam's default runner would first try to download another one.
        flags = [*flags, "--runner=FnApiRunner"]
    if known.runner in (None, *LOCAL_RUNNERS) and known.direct_running_mode == "in_memory":
        workers = [] if any(flag.startswith("--direct_num_workers") for flag in flags) else [ALL_CORES]
        flags = [*flags, *workers, "--direct_running_mode=multi_threading"]
    return flags


def _check_runner(name: str | None) -> None:
    for runner, reason in UNSUPPORTED_RUNNERS.items():
        if name and name.rpartition(".")[2].lower() == runner.lower():
            raise UsageError(f"`runner` {name} is not supported: {reason}; leave out `runner` to run locally")
    try:
        create_runner(name or LOCAL_RUNNERS[0])
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(f"`runner` {name}: {error}") from error


def _subclasses(group: type) -> Iterator[type]:
    subclass: type
    for subclass in group.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
