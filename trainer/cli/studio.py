"""`python -m trainer studio`."""

from __future__ import annotations

import argparse
from importlib import util
from pathlib import Path

from preprocessing.cli import SentenceParser, bounded_int
from preprocessing.errors import UsageError
from trainer.cli.arguments import SubParsers, add_common_arguments, cache_dir
from trainer.studio.options import LOOPBACK, OUTPUT, PORT, Options


def add_parser(commands: SubParsers) -> SentenceParser:
    """Add the sub-command to the parser."""
    parser = commands.add_parser(
        "studio",
        allow_abbrev=False,
        help="serve a page to make, hear and compare music",
        description="Serve a page on which a trained run makes new music and works on recordings, takes are compared, "
        "and people vote in blind listening tests. It needs Gradio: pip install '.[trainer,studio]' in the project's "
        "folder.",
    )
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="trained run or folder of models, local or gs://"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="dataset whose test clips the page offers (default: those stored in the run)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(OUTPUT),
        metavar="DIR",
        help="local folder of takes (default: %(default)s)",
    )
    parser.add_argument(
        "--baseline-run", metavar="DIR", help="a run to compare with in listening tests (default: none)"
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="ADDRESS",
        help="address to listen on; any other than %(default)s needs --auth (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=bounded_int(0, 65_535),
        default=PORT,
        metavar="N",
        help="port, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--auth", type=Path, metavar="FILE", help="file with a line NAME:PASSWORD for each user of the page"
    )
    add_common_arguments(parser)
    return parser


def run(flags: argparse.Namespace) -> None:
    """Serve the page until the program is stopped."""
    users = _read_users(flags.auth) if flags.auth else ()
    if flags.host not in (LOOPBACK, "localhost", "::1") and not users:
        raise UsageError(f"`host` {flags.host} is not this machine alone: protect the page with `auth`")
    if util.find_spec("gradio") is None:
        raise UsageError("the studio needs Gradio: pip install '.[trainer,studio]' in the project's folder")
    from trainer.studio.app import serve

    options = Options(
        run=flags.run,
        data=flags.data,
        output=flags.output,
        baseline_run=flags.baseline_run,
        host=flags.host,
        port=flags.port,
        users=users,
    )
    serve(options, cache_dir(flags))


def _read_users(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`auth` {path} cannot be read as UTF-8 ({error})") from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    users = [tuple(line.split(":", 1)) for line in lines]
    if not users or any(len(user) != 2 or not all(user) for user in users):
        raise UsageError(f"`auth` {path} must have a line NAME:PASSWORD for each user")
    return tuple((user[0], user[1]) for user in users)
