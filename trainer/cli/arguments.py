"""Arguments that several sub-commands share."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

from preprocessing.cli import SentenceParser, add_log_format, bounded_float, bounded_int
from preprocessing.errors import flag
from trainer.config import CHECKPOINT_CHOICES, Config
from trainer.presets import PRESETS
from trainer.training.workers.cluster import PEER_TIMEOUT_SECS

SubParsers: TypeAlias = "argparse._SubParsersAction[SentenceParser]"


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every sub-command: `--cache-dir` and `--verbose`."""
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="local folder on disk for files fetched from gs:// and, in a training, for decoded clips "
        "(default: gtzan-cvae in the temporary folder)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print tracebacks and the logs of other libraries"
    )


def add_checkpoint_argument(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add `--checkpoint`, of the sub-commands that use a trained run; `default` None: unless it is given."""
    parser.add_argument(
        "--checkpoint",
        choices=CHECKPOINT_CHOICES,
        default=default,
        help="weights of the best epoch (the last one of the second stage of training, or before that the best one "
        "on the validation split) or the newest "
        f"(default: {CHECKPOINT_CHOICES[0]})",
    )


def cache_dir(flags: argparse.Namespace) -> Path:
    """Return `--cache-dir` or its default."""
    from trainer.runs.storage import default_cache

    return flags.cache_dir or default_cache()


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every sub-command that trains: devices, log format and all fields of `Config`."""
    parser.add_argument(
        "--replicas",
        type=bounded_int(1),
        metavar="N",
        help="devices to train on; without a GPU, logical CPU devices (default: all GPUs, or else one CPU)",
    )
    parser.add_argument(
        "--require-gpus",
        type=bounded_int(0),
        default=0,
        metavar="N",
        help="end, and do not train on the CPU, if there are fewer GPUs: with exit code 2, or 75 if one is lost or "
        "busy (default: %(default)s)",
    )
    parser.add_argument(
        "--track",
        metavar="mlflow:URI",
        help="also record parameters, metrics of each epoch and the report with MLflow, such as "
        "mlflow:http://localhost:5000",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML or JSON file with fields of the configuration, such as a run's config.json, local or gs://; flags "
        "override it",
    )
    parser.add_argument(
        "--progress-file",
        type=Path,
        metavar="FILE",
        help="touch FILE at most once a second while there is progress, for a liveness probe",
    )
    parser.add_argument(
        "--peer-timeout-secs",
        type=bounded_float(0, low_is_open=True),
        default=PEER_TIMEOUT_SECS,
        metavar="SECS",
        help="with several workers, how long to wait for all of them before ending with exit code 75 "
        "(default: %(default)g)",
    )
    add_log_format(parser)
    group = parser.add_argument_group(
        "configuration",
        f"saved in the run's config.json; the defaults are those of the preset {Config.preset}",
    )
    for field in dataclasses.fields(Config):
        setting = Config.setting(field.name)
        choices = sorted(PRESETS) if field.name == "preset" else setting.choices
        kind: dict[str, Any] = {"type": type(field.default), "metavar": "N"}
        if isinstance(field.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif choices:
            kind = {"choices": choices}
        description = f"{setting.description} (default: {field.default})"
        group.add_argument(flag(field.name), default=argparse.SUPPRESS, help=description, **kind)


def given_settings(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `Config` that are set on the command line, or else in the file `--config`.

    Raises:
        CommandError: The file has an unknown field or is not readable (2), does not exist (3), or storage failed (4).
    """
    settings: dict[str, Any] = {}
    if flags.config is not None:
        from trainer.runs.settings_file import read_settings

        settings = read_settings(flags.config)
    return settings | {name: getattr(flags, name) for name in Config.names() if name in flags}
