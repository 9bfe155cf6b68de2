"""Leases of local folders while other processes take, release and delete them; of buckets: test_storage_faults.py."""

import threading
from contextlib import contextmanager

import pytest

from preprocessing.errors import UsageError
from preprocessing.storage import lease
from preprocessing.storage.local_folders import delete_empty_folders

TIMES = 300


@contextmanager
def meanwhile(call):
    """Call a function again and again in a thread for the length of a `with` block."""
    ended = threading.Event()

    def work():
        while not ended.is_set():
            call()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_of_two_processes_one_holds_the_lease(tmp_path):
    with lease.acquire(str(tmp_path / "run")):
        assert "process" in lease.holder(str(tmp_path / "run"))
        with (
            pytest.raises(UsageError, match=r"another process .* is at work"),
            lease.acquire(str(tmp_path / "run")),
        ):
            raise AssertionError
    assert lease.holder(str(tmp_path / "run")) is None
    assert lease.holder(str(tmp_path / "none")) is None


def test_whoever_asks_for_the_holder_survives_its_release(tmp_path):
    def hold():
        with lease.acquire(str(tmp_path)):
            pass

    with meanwhile(hold):
        holders = {lease.holder(str(tmp_path)) is not None for _ in range(TIMES)}
    assert holders <= {True, False}


def test_a_lease_is_taken_also_if_its_folder_is_deleted_meanwhile(tmp_path):
    folder = tmp_path / "candidates" / "one"
    with meanwhile(lambda: delete_empty_folders(str(tmp_path / "candidates"))):
        for _ in range(TIMES):
            with lease.acquire(str(folder)):
                (folder / "config.json").write_text("{}")
                assert lease.holder(str(folder))
                (folder / "config.json").unlink()


def test_a_folder_with_files_is_not_deleted(tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("mine")
    delete_empty_folders(str(tmp_path / "a"))
    assert [path.name for path in sorted((tmp_path / "a").rglob("*"))] == ["b", "file"]


def test_a_folder_that_cannot_be_made_is_an_error():
    with pytest.raises(OSError), lease.acquire("/proc/none/run"):
        raise AssertionError
