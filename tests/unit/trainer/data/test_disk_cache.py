import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.disk_cache import FETCHING, DiskCache, PinnedFile


@pytest.fixture
def files(tmp_path):
    """Five files of 10 bytes, of two datasets."""
    paths = [tmp_path / name for name in ("new/a", "new/b", "new/c", "old/a", "old/b")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
    return paths


def present(root):
    return sorted(path.relative_to(root).as_posix() for path in root.glob("*/*"))


def test_files_that_are_needed_last_make_room(files, tmp_path):
    cache = DiskCache(tmp_path, 60)
    needed = dict(zip(files, (3.0, 1.0, 2.0, float("inf"), float("inf")), strict=True))
    assert cache.reserve(tmp_path / "new/d", 10, needed.get)  # there is room
    assert len(present(tmp_path)) == 5
    assert cache.reserve(tmp_path / "new/e", 20, needed.get)
    assert present(tmp_path) == ["new/a", "new/b", "new/c"]
    assert cache.reserve(tmp_path / "new/f", 5, needed.get)
    assert present(tmp_path) == ["new/b", "new/c"]


def test_a_folder_that_is_deleted_while_files_are_listed_is_left_out(files, tmp_path, monkeypatch):
    listed = Path.iterdir

    def list_and_delete(path):
        paths = list(listed(path))
        if path == tmp_path:
            shutil.rmtree(tmp_path / "old")
        return iter(paths)

    monkeypatch.setattr(Path, "iterdir", list_and_delete)
    assert DiskCache(tmp_path, 40).reserve(tmp_path / "new/d", 10, lambda path: None)


def test_nothing_is_deleted_if_that_does_not_make_enough_room(files, tmp_path):
    cache = DiskCache(tmp_path, 50)
    assert not cache.reserve(tmp_path / "new/d", 10, lambda path: None)
    assert not cache.reserve(tmp_path / "new/d", 60, lambda path: 1.0)
    assert len(present(tmp_path)) == 5
    assert cache.reserve(files[0], 10, lambda path: None)  # it is there


def test_a_pinned_file_stays(files, tmp_path):
    cache = DiskCache(tmp_path, 50)
    pins = [PinnedFile(files[0]), PinnedFile(files[0])]
    pins.pop().close()
    assert cache.reserve(tmp_path / "new/d", 10, lambda path: 9.0 if path == files[0] else 1.0)
    assert "new/a" in present(tmp_path)
    pins.pop().close()
    assert cache.reserve(tmp_path / "new/e", 10, lambda path: 9.0 if path == files[0] else 1.0)
    assert "new/a" not in present(tmp_path)


def test_reservations_count_until_they_are_settled(tmp_path):
    cache = DiskCache(tmp_path, 30)
    assert cache.reserve(tmp_path / "new/a", 20, lambda path: None)
    assert not cache.reserve(tmp_path / "new/b", 20, lambda path: None)
    cache.settle(tmp_path / "new/a")  # it could not be fetched
    assert cache.reserve(tmp_path / "new/b", 20, lambda path: None)
    assert not cache.holds(tmp_path / "new/b")


def test_what_a_killed_process_left_unfinished_is_deleted_and_what_a_living_one_fetches_is_not(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from trainer.data.disk_cache import DiskCache\n"
        "with DiskCache(Path(sys.argv[1]), 100).unfinished_folder() as folder:\n"
        "    (folder / 'part').write_bytes(bytes(40)); print('fetching', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "fetching\n"
    cache = DiskCache(tmp_path, 100)
    assert len(list(tmp_path.glob(f"{FETCHING}*/part"))) == 1
    assert not cache.reserve(tmp_path / "new/a", 70, lambda path: 1.0)
    process.kill()
    process.wait()
    process.stdout.close()
    assert DiskCache(tmp_path, 100).reserve(tmp_path / "new/a", 70, lambda path: 1.0)
    assert not list(tmp_path.glob(f"{FETCHING}*"))
