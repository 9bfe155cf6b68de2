"""`python -m trainer COMMAND`: flags -> one call each. TensorFlow is imported only after they are parsed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import os
import sys
import warnings

from preprocessing.cli import run_command
from preprocessing.errors import USAGE, CommandError
from trainer import event_log
from trainer.cli import PROGRAM, build_parser
from trainer.config import MAX_SEED, Config, flag
from trainer.registry.promotion import Criteria
from trainer.run_config import resolve
from trainer.training.cluster import find


def _train(flags: argparse.Namespace) -> None:
    given, cluster = _settings(flags), find(os.environ)
    resolve(given, None)  # nonsense is refused before TensorFlow takes its seconds to start
    from trainer.runs.storage import default_cache
    from trainer.training.train import train_and_evaluate

    cache = flags.cache_dir or default_cache()
    report = train_and_evaluate(
        flags.data, flags.run, given, flags.replicas, cache, profile=flags.profile, cluster=cluster
    )
    if cluster is None or cluster.index == 0:
        event_log.log_event("done", f"listen and look: {report}", report=report)


def _status(flags: argparse.Namespace) -> None:
    from trainer.runs.status import status

    print(status(flags.run))


def _generate(flags: argparse.Namespace) -> None:
    if flags.output_rate_hz is not None and not 1_000 <= flags.output_rate_hz <= 192_000:
        raise CommandError(f"--output-rate-hz must be 1000 to 192000, not {flags.output_rate_hz}", USAGE)
    if not 0 <= flags.seed <= MAX_SEED:
        raise CommandError(f"--seed must be 0 to {MAX_SEED}, not {flags.seed}", USAGE)
    for name, low in {"count": 1, "steps": 2, "secs": 0, "temperature": 0, "guidance": 0}.items():
        value = getattr(flags, name)
        if value is not None and not low <= value < math.inf:
            raise CommandError(f"{flag(name)} must be at least {low}, not {value}", USAGE)
    attributes = {name: getattr(flags, name) for name in ("loudness_db", "centroid_hz", "tempo_bpm")}
    for name, value in {"noise_scale": flags.noise_scale, **attributes}.items():
        if value is not None and not math.isfinite(value):
            raise CommandError(f"{flag(name)} must be a finite number, not {value}", USAGE)
    from trainer.generation.generate import generate
    from trainer.generation.options import Options
    from trainer.runs.storage import default_cache

    same = {field.name for field in dataclasses.fields(Options)} & set(vars(flags))
    options = Options(
        modes=tuple(flags.mode),
        attributes={name: value for name, value in attributes.items() if value is not None},
        **{name: getattr(flags, name) for name in same},
    )
    files = generate(flags.run, flags.output, flags.cache_dir or default_cache(), options)
    print(f"{flags.output}: {len(files)} clips, {files[0]} to {files[-1]}, and their pictures")


def _evaluate(flags: argparse.Namespace) -> None:
    for name, low in {"count": 2, "seed": 0, "temperature": 0, "guidance": 0}.items():
        if getattr(flags, name) is not None and not low <= getattr(flags, name) <= MAX_SEED:
            raise CommandError(f"{flag(name)} must be at least {low}, not {getattr(flags, name)}", USAGE)
    from trainer.evaluation.evaluate import Options, evaluate
    from trainer.runs.storage import default_cache

    same = {name: getattr(flags, name) for name in set(Options._fields) & set(vars(flags))}
    options = Options(embeddings=tuple(flags.embedding), **same)
    where = evaluate(flags.run, flags.data, flags.output, flags.cache_dir or default_cache(), options)
    print(f"the tables: {where}")


def _retrain(flags: argparse.Namespace) -> None:
    for name in ("min_gain", "max_loss"):
        if not 0 <= getattr(flags, name) < math.inf:
            raise CommandError(f"{flag(name)} must be at least 0, not {getattr(flags, name)}", USAGE)
    for name, low in {"count": 2, "max_candidates": 1}.items():
        if getattr(flags, name) < low:
            raise CommandError(f"{flag(name)} must be at least {low}, not {getattr(flags, name)}", USAGE)
    given = _settings(flags)
    from trainer.registry.options import Options
    from trainer.registry.retrain import retrain
    from trainer.runs.storage import default_cache

    names = {field.name for field in dataclasses.fields(Options)}
    same = {name: getattr(flags, name) for name in names & set(vars(flags))}
    options = Options(
        config=resolve(given, None),
        cache=flags.cache_dir or default_cache(),
        criteria=Criteria(flags.metric, flags.min_gain, flags.max_loss),
        **same,
    )
    with contextlib.redirect_stdout(sys.stderr):  # whoever started it reads one line, the verdict
        decision = retrain(options)
    print(json.dumps(decision, allow_nan=False))


def _champion(flags: argparse.Namespace) -> None:
    from trainer.registry import champion

    if flags.action == "promote":
        print(champion.promote(flags.models, flags.candidate))
    else:
        print({"show": champion.show, "rollback": champion.rollback}[flags.action](flags.models))


def _settings(flags: argparse.Namespace) -> dict[str, object]:
    """The configuration's fields that were given."""
    if flags.replicas is not None and flags.replicas < 1:
        raise CommandError(f"--replicas must be at least 1, not {flags.replicas}", USAGE)
    return {
        field.name: getattr(flags, field.name) for field in dataclasses.fields(Config) if field.name in flags
    }


COMMANDS = {
    "train": _train,
    "generate": _generate,
    "evaluate": _evaluate,
    "status": _status,
    "retrain": _retrain,
    "champion": _champion,
}


def main(argv: list[str] | None = None) -> int:
    """Runs a sub-command; returns its exit code."""
    flags = build_parser().parse_args(argv)
    if flags.verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    else:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    if "log_format" in flags:
        event_log.use(flags.log_format)

    def refuse(message: str, exit_code: int) -> None:
        event_log.log_event("error", message, event_log.ERROR, exit_code=exit_code)

    return run_command(PROGRAM, lambda: COMMANDS[flags.command](flags), flags.verbose, refuse)


if __name__ == "__main__":
    sys.exit(main())
