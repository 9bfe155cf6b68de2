from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys

import pytest

from preprocessing import event_log
from preprocessing.cli import SentenceParser, bounded_float, bounded_int, run_command
from preprocessing.errors import (
    BAD_DATA,
    DONE,
    STOPPED,
    STORAGE_FAILED,
    UNEXPECTED,
    USAGE,
    DataError,
    UsageError,
    flag,
)


def message_of(validator, text: str) -> str:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        validator(text)
    return str(error.value)


@pytest.mark.parametrize("text, value", [("1", 1), ("8", 8), (" 3 ", 3)])
def test_an_integer_within_its_bounds_is_accepted(text, value):
    assert bounded_int(1, 8)(text) == value


def test_an_integer_without_an_upper_bound_may_be_large():
    assert bounded_int(0)("123456789012") == 123456789012


@pytest.mark.parametrize(
    "validator, text, message",
    [
        (bounded_int(1), "0", "must be at least 1, not 0"),
        (bounded_int(1), "-3", "must be at least 1, not -3"),
        (bounded_int(100, 192_000), "99", "must be from 100 to 192000, not 99"),
        (bounded_int(100, 192_000), "192001", "must be from 100 to 192000, not 192001"),
        (bounded_int(1), "1.5", "must be an integer at least 1, not '1.5'"),
        (bounded_int(1, 8), "many", "must be an integer from 1 to 8, not 'many'"),
        (bounded_int(1), "", "must be an integer at least 1, not ''"),
    ],
)
def test_an_integer_out_of_bounds_is_refused_with_its_range(validator, text, message):
    assert message_of(validator, text) == message


@pytest.mark.parametrize("text, value", [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1e-3", 0.001)])
def test_a_number_within_its_bounds_is_accepted(text, value):
    assert bounded_float(0, 1)(text) == value


@pytest.mark.parametrize(
    "validator, text, message",
    [
        (bounded_float(0), "-0.1", "must be at least 0, not -0.1"),
        (bounded_float(0, 1), "1.01", "must be at least 0 and at most 1, not 1.01"),
        (bounded_float(0, 3_600, low_is_open=True), "0", "must be above 0 and at most 3600, not 0"),
        (bounded_float(0, 1, high_is_open=True), "1", "must be at least 0 and below 1, not 1"),
        (
            bounded_float(0, 1, low_is_open=True),
            "half",
            "must be a finite number, above 0 and at most 1, not 'half'",
        ),
        (bounded_float(-math.inf), "x", "must be a finite number, not 'x'"),
    ],
)
def test_a_number_out_of_bounds_is_refused_with_its_range(validator, text, message):
    assert message_of(validator, text) == message


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize(
    "validator", [bounded_float(0), bounded_float(-math.inf), bounded_float(0, math.inf), bounded_float(0, 1)]
)
def test_nan_and_infinity_are_never_accepted(validator, text):
    message = message_of(validator, text)
    assert message.startswith("must be a finite number") and message.endswith(f"not {text!r}")


def test_an_unbounded_number_may_be_negative():
    assert bounded_float(-math.inf)("-17.5") == -17.5


def test_the_parser_names_the_flag_and_exits_with_2(capsys):
    parser = SentenceParser(prog="program")
    parser.add_argument("--shards", type=bounded_int(1))
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--shards", "0"])
    assert end.value.code == USAGE
    expected = "program: error: argument --shards: must be at least 1, not 0 (see program --help)\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "error, exit_code, message",
    [
        (DataError("no dataset"), BAD_DATA, "no dataset"),
        (UsageError("`noise_scale` 9 exceeds `steps`"), USAGE, "--noise-scale 9 exceeds --steps"),
        (KeyboardInterrupt(), STOPPED, "stopped; run the same command again to continue"),
        (
            PermissionError("denied"),
            STORAGE_FAILED,
            "denied; check the path, its permissions and the free space",
        ),
        (ZeroDivisionError("two\nlines"), UNEXPECTED, "ZeroDivisionError: two lines (see --verbose)"),
    ],
)
def test_an_exception_becomes_one_line_and_an_exit_code(error, exit_code, message, capsys):
    def command() -> None:
        raise error

    assert run_command("program", command, verbose=False) == exit_code
    assert capsys.readouterr().err == f"program: error: {message}\n"


def test_verbose_prints_the_traceback_before_the_line(capsys):
    def command() -> None:
        raise DataError("no dataset")

    assert run_command("program", command, verbose=True) == BAD_DATA
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1] == "program: error: no dataset"


def test_with_json_logs_an_error_is_an_event_with_its_exit_code(capsys):
    def command() -> None:
        raise DataError("no dataset")

    event_log.configure("json")
    try:
        assert run_command("program", command, verbose=False) == BAD_DATA
    finally:
        event_log.configure()
    output = capsys.readouterr()
    entry = json.loads(output.out)
    assert (entry["event"], entry["message"]) == ("error", "program: error: no dataset")
    assert (entry["exit_code"], entry["severity"], output.err) == (BAD_DATA, "ERROR", "")


def test_a_command_that_returns_is_done(capsys):
    assert run_command("program", lambda: print("done"), verbose=False) == DONE
    assert sys.stdout is not None and capsys.readouterr().out == "done\n"


@pytest.mark.parametrize("lines", [1, 100_000])  # written at the end, and while the command runs
def test_a_reader_that_has_seen_enough_ends_the_program_quietly(lines):
    code = f"""
import sys
from preprocessing.cli import run_command
def command():
    sys.stdin.readline()
    for _ in range({lines}):
        print("a line")
sys.exit(run_command("program", command, verbose=False))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, stderr=-1, text=True)
    process.stdout.close()
    _, error = process.communicate("go\n", timeout=60)
    assert (process.returncode, error) == (STOPPED, "")


def test_a_flag_is_an_argument_with_hyphens():
    assert flag("sparse_coefficients") == "--sparse-coefficients"
