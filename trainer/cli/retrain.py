"""`python -m trainer retrain`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys

from preprocessing import progress_file
from preprocessing.cli import SentenceParser, bounded_float, bounded_int
from preprocessing.errors import DataError
from trainer.cli.arguments import (
    SubParsers,
    add_common_arguments,
    add_training_arguments,
    cache_dir,
    given_settings,
)
from trainer.registry.options import INITIALIZATIONS, Options
from trainer.registry.promotion import METRICS, STALE, Criteria
from trainer.run_config import resolve
from trainer.training.workers.cluster import find_cluster


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "retrain",
        allow_abbrev=False,
        help="train a candidate, and promote it if it is better than the champion",
        description="Train a candidate on the newest version of a dataset, evaluate it and the champion on "
        "clips that neither was trained on, and promote it only if it is better. Does nothing if neither the "
        "dataset nor the configuration has changed. Prints the decision as one line of JSON. --min-gain and "
        "--max-loss are fractions of the champion's error in a metric: 0.01 is 1% of it.",
    )
    parser.add_argument(
        "--datasets", required=True, metavar="DIR", help="output of preprocessing --versioned, local or gs://"
    )
    parser.add_argument(
        "--models", required=True, metavar="DIR", help="folder of champion and candidates, local or gs://"
    )
    parser.add_argument(
        "--init-from",
        choices=INITIALIZATIONS,
        default=Options.init_from,
        help="initial weights: the champion's, where their shapes match, or random ones "
        "(default: %(default)s)",
    )
    _add_criteria(parser)
    parser.add_argument(
        "--count",
        type=bounded_int(2),
        default=Options.count,
        metavar="N",
        help="generated clips per model in the comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--max-candidates",
        type=bounded_int(1),
        default=Options.max_candidates,
        metavar="N",
        help="newest candidates to keep, besides the champions that a rollback may need "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-dataset-age-days",
        type=bounded_float(0, low_is_open=True),
        metavar="DAYS",
        help="warn if no preprocessing job has succeeded for longer, and end with exit code 3 if there is nothing new "
        "(default: any age)",
    )
    parser.add_argument(
        "--notify",
        default="",
        metavar="URL",
        help="post each decision as JSON to this http or https URL (default: none)",
    )
    add_training_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(reserves_stdout=True)
    return parser


def _add_criteria(parser: argparse.ArgumentParser) -> None:
    criteria = Criteria()
    parser.add_argument(
        "--metric",
        choices=tuple(METRICS),
        default=criteria.metric,
        help="metric that must improve (default: %(default)s)",
    )
    parser.add_argument(
        "--min-gain",
        type=bounded_float(0),
        default=criteria.min_gain,
        metavar="FRACTION",
        help="smallest fraction of the champion's error in that metric that must be removed (default: %(default)s)",
    )
    parser.add_argument(
        "--max-loss",
        type=bounded_float(0),
        default=criteria.max_loss,
        metavar="FRACTION",
        help="largest fraction by which the error in any metric may grow (default: %(default)s)",
    )


def run(flags: argparse.Namespace) -> None:
    """Retrain, and print the decision as one line of JSON, the only line on standard output.

    Of several workers, the chief prints it.
    """
    settings, cluster = given_settings(flags), find_cluster(os.environ, flags.peer_timeout_secs)
    if cluster:
        settings.setdefault("input_shards", len(cluster.addresses))
    config = resolve(settings, None)
    if flags.track:
        from trainer.training.tracking import parse_target

        parse_target(flags.track)
    progress_file.configure(flags.progress_file)
    from trainer.registry.notification import check_url
    from trainer.registry.retrain import retrain

    options = Options(
        datasets=flags.datasets,
        models=flags.models,
        config=config,
        cache=cache_dir(flags),
        criteria=Criteria(flags.metric, flags.min_gain, flags.max_loss),
        init_from=flags.init_from,
        count=flags.count,
        max_candidates=flags.max_candidates,
        max_dataset_age_days=flags.max_dataset_age_days,
        notify=check_url(flags.notify),
        replicas=flags.replicas,
        track=flags.track,
        require_gpus=flags.require_gpus,
        cluster=cluster,
    )
    with contextlib.redirect_stdout(sys.stderr):
        decision = retrain(options)
    if decision is None:
        return
    print(json.dumps(decision, allow_nan=False))
    if decision["decision"] == STALE:
        raise DataError(decision["reason"])
