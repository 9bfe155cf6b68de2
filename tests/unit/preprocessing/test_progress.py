"""Progress as a bar or as events, and the progress file."""

import io
import json
import threading
import time

import pytest

from preprocessing import event_log, progress, progress_file
from preprocessing.errors import USAGE, CommandError
from preprocessing.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log_format():
    yield event_log.configure
    event_log.configure()


@pytest.fixture
def touched(tmp_path):
    """A progress file that is configured, and whose modification time is in the past."""
    path = tmp_path / "new/progress"
    progress_file.configure(path)
    progress_file.end_phase()
    yield path
    progress_file.configure(None)


def count_to(total):
    with Progress("counting", total, "numbers") as shown:
        shown.note("so far good", quality=1.5)
        for _ in range(total):
            shown.advance()


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "EVENT_SECS", 0.0)
    count_to(3)
    assert "counting: " in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_elsewhere_there_is_a_line_every_30_seconds_and_no_bar(monkeypatch, capsys):
    now = [1_000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("counting", 100, "numbers") as shown:
        for _ in range(100):
            now[0] += 1.0
            shown.advance()
    output = capsys.readouterr()
    assert output.err.splitlines() == [f"counting: {done} of 100 numbers" for done in (30, 60, 90)]
    assert output.out == ""


def test_in_json_progress_is_an_event_also_on_a_terminal(monkeypatch, capsys, log_format):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr(progress, "EVENT_SECS", 0.0)
    log_format("json")
    count_to(2)
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first.items() >= {"event": "progress", "task": "counting", "done": 1, "total": 2}.items()
    assert (second["done"], second["unit"], second["quality"]) == (2, "numbers", 1.5)


def test_work_that_is_done_touches_the_progress_file_at_most_once_a_second(touched, monkeypatch):
    monkeypatch.setattr(progress_file._file, "_touched_at", time.monotonic() - 2)
    before = touched.stat().st_mtime_ns
    count_to(1)
    once = touched.stat().st_mtime_ns
    assert once > before
    count_to(50)
    assert touched.stat().st_mtime_ns == once


def test_in_a_phase_cpu_time_touches_the_file_and_waiting_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_file, "TOUCH_SECS", 0.05)
    path = tmp_path / "progress"
    progress_file.configure(path)
    try:
        time.sleep(0.2)
        before = path.stat().st_mtime_ns
        threading.Event().wait(0.3)
        assert path.stat().st_mtime_ns == before, "waiting counted as progress"
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == before and time.monotonic() < deadline:
            sum(range(10_000))
        assert path.stat().st_mtime_ns > before
        progress_file.end_phase()
        time.sleep(0.1)
        before, deadline = path.stat().st_mtime_ns, time.monotonic() + 0.3
        while time.monotonic() < deadline:
            sum(range(10_000))
        assert path.stat().st_mtime_ns == before, "outside of a phase, CPU time counted as progress"
    finally:
        progress_file.configure(None)


def test_a_progress_file_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"`progress_file`.*cannot be written") as caught:
        progress_file.configure(tmp_path / "file/progress")
    assert caught.value.exit_code == USAGE
