"""The job on an engine that is not part of it: Beam's job server, with each worker in a process of its own.

Launcher, engine and workers speak the protocols by which Flink, Spark and Dataflow run a job.
"""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.tiny_corpus import TINY, write_clip

from preprocessing.__main__ import main
from preprocessing.commands.job import build_parser
from preprocessing.pipeline.beam_flags import complete_beam_flags

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"]
DYING_WORKER = [sys.executable, "-m", "support.services.dying_worker"]
STARTUP_SECS = 60


@pytest.fixture(scope="module")
def job_server(tmp_path_factory):
    """The address of a job server."""
    folder = tmp_path_factory.mktemp("server")
    port = folder / "port"
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
        flags = ["--port_file", port, "--staging_dir", folder / "staged"]
        process = subprocess.Popen([*command, *map(str, flags)], stdout=log, stderr=log)
        deadline = time.monotonic() + STARTUP_SECS
        while not port.exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"localhost:{port.read_text()}"
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder with duplicates: an identical file, and one in another format and of another level."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(12):
        write_clip(folder / f"rock/rock.{number:05d}.wav", number)
    (folder / "rock/same.wav").write_bytes((folder / "rock/rock.00003.wav").read_bytes())
    write_clip(folder / "rock/lossy.flac", 5)
    (folder / "rock/broken.mp3").write_bytes(b"not audio")
    return folder


@pytest.fixture(scope="module")
def expected(music, tmp_path_factory):
    """The files that the job writes without an engine."""
    output = tmp_path_factory.mktemp("local")
    assert main(["--input", str(music), "--output", str(output), *TINY]) == 0
    return contents(output)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def run(music, output, server, worker):
    engine = ["--runner", "PortableRunner", "--job_endpoint", server]
    workers = ["--environment_type", "beam:env:harness_subprocess_python:v1", "--environment_config"]
    return main(
        [
            "--input",
            str(music),
            "--output",
            str(output),
            *TINY,
            *engine,
            *workers,
            shlex.join(map(str, worker)),
        ]
    )


def test_an_engine_with_workers_in_processes_writes_the_same_bytes(music, expected, job_server, tmp_path):
    assert run(music, tmp_path, job_server, WORKER) == 0
    assert contents(tmp_path) == expected
    reasons = b"".join(expected["quarantine.jsonl"].splitlines())
    assert reasons.count(b'"duplicate"') == 2


def test_a_job_whose_worker_is_killed_writes_the_same_bytes(music, expected, job_server, tmp_path, capsys):
    died = tmp_path / "died"
    output = tmp_path / "out"
    assert run(music, output, job_server, [*DYING_WORKER, died]) == 0
    assert died.exists()
    assert "a worker of the runner died (attempt 1 of 3)" in capsys.readouterr().out
    assert contents(output) == expected


def test_beam_knows_all_flags_of_the_documented_commands():
    page = (ROOT / "docs/dataset.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^(?:python -m preprocessing|  \.\.\.) (.*--runner.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        given = [flag for flag in shlex.split(command, comments=True) if flag != "..."]
        if "--input" not in given:  # it continues another command
            given += ["--input", "IN", "--output", "OUT"]
        _, beam_flags = build_parser("").parse_known_args(given)
        assert complete_beam_flags(beam_flags) == beam_flags
