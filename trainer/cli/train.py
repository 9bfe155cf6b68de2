"""`python -m trainer train`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from preprocessing import event_log, progress_file
from preprocessing.cli import SentenceParser
from preprocessing.errors import UsageError
from trainer.cli.arguments import (
    SubParsers,
    add_common_arguments,
    add_training_arguments,
    cache_dir,
    given_settings,
)
from trainer.run_config import resolve
from trainer.training.workers.cluster import find_cluster


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "train",
        allow_abbrev=False,
        help="start or resume a training run",
        description="Train a model on a dataset. A run directory that exists is resumed from its newest "
        "checkpoint.",
    )
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="dataset directory of preprocessing, local or gs://"
    )
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="run directory to create or to resume, local or gs://"
    )
    parser.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="write a TensorBoard profile of these training steps, counted from the run's first step, 1",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be trained, and estimate time, disk and memory from a few steps on noise; write nothing",
    )
    add_training_arguments(parser)
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Train until all epochs are done."""
    settings, cluster = given_settings(flags), find_cluster(os.environ, flags.peer_timeout_secs)
    resolve(settings, None)  # rejects invalid settings before the slow import of TensorFlow
    if flags.track:
        from trainer.training.tracking import parse_target

        parse_target(flags.track)
    if not flags.dry_run:
        progress_file.configure(flags.progress_file)
    from trainer.training.workers.gpus import require_gpus

    require_gpus(flags.require_gpus)
    if flags.dry_run:
        _dry_run(flags, settings, is_alone=cluster is None)
        return
    from trainer.training.train import train_and_evaluate

    report = train_and_evaluate(
        flags.data,
        flags.run,
        settings,
        flags.replicas,
        cache_dir(flags),
        profile=flags.profile,
        cluster=cluster,
        track=flags.track,
    )
    if cluster is None or cluster.worker == 0:
        event_log.log_event("done", f"report: {report}", report=report)


def _dry_run(flags: argparse.Namespace, settings: dict[str, Any], is_alone: bool) -> None:
    if not is_alone:
        raise UsageError(
            "`dry_run` estimates the training of one process: unset TF_CONFIG and run it on one machine"
        )
    from trainer.training.planning.dry_run import dry_run

    plan = dry_run(flags.data, flags.run, settings, flags.replicas)
    event_log.log_event("dry_run", plan.describe(), **plan.to_json())
