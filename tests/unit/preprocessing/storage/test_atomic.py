from pathlib import Path

import pytest

from preprocessing.storage.atomic import is_temporary, write_atomically


def test_a_file_is_replaced_and_no_temporary_file_remains(tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    for content in ("é", b"\xff"):
        write_atomically(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "champion.json"
    write_atomically(path, "old")

    def fail(self: Path, target: Path) -> None:
        assert is_temporary(self)
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["champion.json", ".lease", "notes.tmp", ".hidden"])
def test_only_the_files_of_an_unfinished_write_are_temporary(name: str) -> None:
    assert not is_temporary(Path("run") / name)
