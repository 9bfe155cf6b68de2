"""The flags of every sub-command, and what each is for."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from preprocessing.cli import SentenceParser
from trainer.config import (
    GUIDANCE,
    MODES,
    UNCONDITIONAL_GUIDANCE,
    Config,
    flag,
)
from trainer.event_log import LOG_FORMATS
from trainer.presets import PRESETS
from trainer.registry.options import FROM_CHAMPION, INITIALIZATIONS
from trainer.registry.promotion import METRICS, Criteria

PROGRAM = "python -m trainer"


def build_parser() -> argparse.ArgumentParser:
    """All sub-commands; which one was given is in `command`."""
    parser = SentenceParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Train a convolutional variational autoencoder on music, and make music with it.",
        epilog="Exit codes: 0 done, 2 wrong usage or configuration, 3 bad or missing data, 4 storage failed, "
        "75 stopped on request with a checkpoint saved: run the same command again.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=SentenceParser
    )
    _add_train(commands)
    _add_generate(commands)
    _add_evaluate(commands)
    _add_status(commands)
    _add_retrain(commands)
    _add_champion(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        allow_abbrev=False,
        help="train a run, or go on with it",
        description="Train on a dataset; a run directory that exists is resumed from its newest checkpoint.",
    )
    train.add_argument(
        "--data", required=True, metavar="DIR", help="dataset directory of preprocessing, local or gs://"
    )
    train.add_argument(
        "--run", required=True, metavar="DIR", help="run directory to write or to resume, local or gs://"
    )
    train.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="write a TensorBoard profile of these training steps, the run's first being 1, into its events",
    )
    _add_training(train)
    _add_shared(train)


def _add_training(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--replicas",
        type=int,
        metavar="N",
        help="devices to train on; without a GPU, logical CPU devices (default: all GPUs, else one CPU)",
    )
    command.add_argument(
        "--log-format",
        choices=LOG_FORMATS,
        default=LOG_FORMATS[0],
        help="lines and a bar for people, or one JSON object a line for a collector of logs (default: text)",
    )
    settings = command.add_argument_group("configuration", "kept in the run's config.json; defaults of wave")
    for field in dataclasses.fields(Config):
        choices = sorted(PRESETS) if field.name == "preset" else Config.setting(field.name).choices
        if isinstance(field.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif choices:
            kind = {"choices": choices}
        else:
            kind = {"type": type(field.default), "metavar": "N"}
        settings.add_argument(
            flag(field.name),
            default=argparse.SUPPRESS,
            help=f"{Config.setting(field.name).description} (default: {field.default})",
            **kind,
        )


def _add_generate(commands: argparse._SubParsersAction) -> None:
    generate = commands.add_parser(
        "generate",
        allow_abbrev=False,
        help="make music with a trained run",
        description="Make music in every mode that the model has, or some: prior (new clips), variation (known "
        "ones, moved in the latent space), reconstruct (through the model and back), interpolate (from one "
        "clip to another), transfer (a clip as another genre) and continue (its beginning, then the model).",
    )
    generate.add_argument("--run", required=True, metavar="DIR", help="trained run, local or gs://")
    generate.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the WAV files and pictures, local or gs://"
    )
    generate.add_argument(
        "--mode",
        action="append",
        default=[],
        choices=MODES,
        help="only this mode; may be given several times",
    )

    def number(name: str, kind: type, help_: str, default: float | None = None, unit: str = "X") -> None:
        shown = "" if default is None else f" (default: {default:g})"
        generate.add_argument(name, type=kind, default=default, metavar=unit, help=help_ + shown)

    number("--count", int, "clips of each mode", 4, "N")
    number("--seed", int, "of all that is random", 0, "N")
    generate.add_argument(
        "--genre", metavar="NAME", help="only this genre, if the model knows genres (default: each in turn)"
    )
    generate.add_argument(
        "--to-genre", metavar="NAME", help="what transfer makes of them (default: the next genre)"
    )
    number("--loudness-db", float, "RMS level of new clips in dB of full scale (default: open)", unit="DB")
    number("--centroid-hz", float, "brightness of new clips in Hz (default: open)", unit="HZ")
    number("--tempo-bpm", float, "tempo of new clips (default: open)", unit="BPM")
    number("--secs", float, "length of new and continued clips (default: as in training)", unit="SECS")
    number("--temperature", float, "of the prior: lower is more typical, higher more adventurous", 1.0)
    number("--guidance", float, "how strongly genre and attributes count; 1 as in training", GUIDANCE)
    number("--noise-scale", float, "how far variation moves, in standard deviations of the prior", 0.5)
    number("--steps", int, "clips of an interpolation, both ends included", 5, "N")
    generate.add_argument(
        "--data",
        metavar="DIR",
        help="dataset whose test clips are started from (default: those that the run keeps)",
    )
    generate.add_argument(
        "--output-rate-hz",
        type=int,
        metavar="HZ",
        help="sample rate of the WAV files in Hz, for players that refuse the model's (default: the model's)",
    )
    _add_shared(generate)


def _add_status(commands: argparse._SubParsersAction) -> None:
    status = commands.add_parser(
        "status",
        allow_abbrev=False,
        help="say where a run stands",
        description="Say where a run stands: epoch, best figures, last checkpoint and its age, and who is at "
        "work on it.",
    )
    status.add_argument("--run", required=True, metavar="DIR", help="run directory, local or gs://")
    _add_shared(status)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        allow_abbrev=False,
        help="judge a trained run beside its baselines",
        description="Measure how true a run's reconstructions are, how real its new music and if it does "
        "what it is asked, on clips that it was not trained on, beside the reference model, PCA, noise and "
        "real clips. Writes JSON, Markdown and pictures, and a section of the run's report.",
    )
    evaluate.add_argument("--run", required=True, metavar="DIR", help="trained run, local or gs://")
    evaluate.add_argument("--data", required=True, metavar="DIR", help="its dataset, or another, alike")
    evaluate.add_argument("--output", metavar="DIR", help="folder for the tables (default: the run's)")
    evaluate.add_argument(
        "--split", choices=("test", "validation"), default="test", help="clips to judge by (default: test)"
    )
    evaluate.add_argument(
        "--count", type=int, default=48, metavar="N", help="new clips of each kind (default: 48)"
    )
    evaluate.add_argument(
        "--embedding",
        action="append",
        default=[],
        metavar="NAME",
        help="Frechet distances on this too: musicnn, or a SavedModel's folder; log-mel is always there",
    )
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is new (default: 0)")
    evaluate.add_argument(
        "--baseline-run",
        metavar="DIR",
        help="trained run of the preset reference (default: the run's name with -reference; trained if missing)",
    )
    evaluate.add_argument(
        "--temperature", type=float, default=1.0, metavar="X", help="of the prior (default: 1)"
    )
    evaluate.add_argument(
        "--guidance",
        type=float,
        metavar="X",
        help=f"of the prior (default: {GUIDANCE:g} where something is asked, else {UNCONDITIONAL_GUIDANCE:g})",
    )
    _add_shared(evaluate)


def _add_retrain(commands: argparse._SubParsersAction) -> None:
    retrain = commands.add_parser(
        "retrain",
        allow_abbrev=False,
        help="train a candidate, and promote it if it is better",
        description="Train a candidate on the newest version of a dataset, judge it and the champion on "
        "clips that neither was trained on, and promote it only if it is better. Where neither the dataset "
        "nor the configuration has changed, nothing is done. Prints the verdict as one line of JSON. Gain "
        "and loss are parts of the champion's error in a metric: 0.01 is 1% of it.",
    )
    retrain.add_argument(
        "--datasets", required=True, metavar="DIR", help="output of preprocessing --versioned, local or gs://"
    )
    retrain.add_argument(
        "--models", required=True, metavar="DIR", help="folder of champion and candidates, local or gs://"
    )
    retrain.add_argument(
        "--init-from",
        choices=INITIALIZATIONS,
        default=FROM_CHAMPION,
        help=f"weights to begin with; the champion's only where they fit (default: {FROM_CHAMPION})",
    )
    usual = Criteria()
    retrain.add_argument(
        "--metric",
        choices=tuple(METRICS),
        default=usual.metric,
        help=f"the metric that must gain (default: {usual.metric})",
    )
    retrain.add_argument(
        "--min-gain",
        type=float,
        default=usual.min_gain,
        metavar="PART",
        help=f"part of the champion's error that must be gone (default: {usual.min_gain:g})",
    )
    retrain.add_argument(
        "--max-loss",
        type=float,
        default=usual.max_loss,
        metavar="PART",
        help=f"part by which the error in any metric may grow (default: {usual.max_loss:g})",
    )
    retrain.add_argument(
        "--count", type=int, default=48, metavar="N", help="new clips to judge each model by (default: 48)"
    )
    retrain.add_argument(
        "--max-candidates",
        type=int,
        default=5,
        metavar="N",
        help="newest candidates that stay, beside the champions to go back to (default: 5)",
    )
    _add_training(retrain)
    _add_shared(retrain)


def _add_champion(commands: argparse._SubParsersAction) -> None:
    champion = commands.add_parser(
        "champion",
        allow_abbrev=False,
        help="show or change which model is the champion",
        description="Show the champion of a folder of models, make another candidate the champion, or go "
        "back to the one before.",
    )
    actions = champion.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=SentenceParser
    )
    for name, help_ in {
        "show": "say who is the champion, and who was before",
        "promote": "make a candidate the champion by hand",
        "rollback": "go back to the champion before; retraining does not promote this one again",
    }.items():
        action = actions.add_parser(
            name, allow_abbrev=False, help=help_, description=f"{help_.capitalize()}."
        )
        action.add_argument(
            "--models", required=True, metavar="DIR", help="folder of champion and candidates, local or gs://"
        )
        if name == "promote":
            action.add_argument("--candidate", required=True, metavar="NAME", help="its folder's name")
        _add_shared(action)


def _add_shared(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="local folder for what is fetched from gs:// (default: gtzan-cvae in the temporary folder)",
    )
    command.add_argument("--verbose", action="store_true", help="print tracebacks and third parties' logs")
