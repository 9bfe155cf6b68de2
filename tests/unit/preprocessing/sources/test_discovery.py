"""Discovery in folders, patterns, lists and archives, including untrusted and corrupt ones."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.tiny_corpus import write_clip

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.sources import archives
from preprocessing.sources.discovery import find_inputs
from preprocessing.sources.opener import Opener, stage_indexes


def reasons(discovery, root):
    return {os.path.relpath(file.uri, root): file.reason for file in discovery.rejected}


def relative_paths(discovery):
    return [file.relative_path for file in discovery.files]


def file_names(discovery):
    return [file.uri.rpartition("/")[2] for file in discovery.files]


def test_a_folder_is_searched_at_any_depth_and_unreadable_entries_are_rejected(tmp_path):
    root = tmp_path / "in [1]"
    write_clip(root / "rock/deep/er/a.wav", 1)
    write_clip(root / "rock/b c'\".wav", 2)
    (root / "rock/folder.wav").mkdir()
    (root / "rock/gone.wav").symlink_to("nowhere.wav")
    (root / "rock/round").symlink_to(root, target_is_directory=True)
    (root / "rock/self.wav").symlink_to("self.wav")
    (root / "jazz").symlink_to(root / "rock/deep", target_is_directory=True)
    (root / ".cache").mkdir()
    (root / ".cache/c.wav").write_bytes(b"")
    os.mkfifo(root / "rock/pipe.wav")
    discovery = find_inputs(str(root))
    assert relative_paths(discovery) == ["jazz/er/a.wav", "rock/b c'\".wav", "rock/deep/er/a.wav"]
    assert reasons(discovery, root) == {
        "rock/folder.wav": "is_folder",
        "rock/gone.wav": "broken_link",
        "rock/round": "looping_link",
        "rock/self.wav": "broken_link",
        "rock/pipe.wav": "not_a_file",
    }


def test_a_folder_without_permission_is_rejected(tmp_path):
    write_clip(tmp_path / "rock/a.wav", 1)
    write_clip(tmp_path / "locked/b.wav", 2)
    (tmp_path / "locked").chmod(0)
    # The superuser may read everything, so the search runs as another user.
    program = (
        "import os\n"
        "from preprocessing.sources.discovery import find_inputs\n"
        "os.getuid() or os.setuid(65534)\n"
        "discovery = find_inputs('.')\n"
        "print([file.relative_path for file in discovery.files])\n"
        "print([(file.uri, file.reason) for file in discovery.rejected])"
    )
    tmp_path.chmod(0o755)
    try:
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (tmp_path / "locked").chmod(0o755)
    assert process.stdout == "['rock/a.wav']\n[('locked', 'no_permission')]\n", process.stderr


def test_a_pattern_matches_files_and_folders(tmp_path):
    for name in ("blues/a.wav", "blues/b.flac", "bluegrass/c.wav", "rock/d.wav"):
        write_clip(tmp_path / name, 1)
    assert file_names(find_inputs(f"{tmp_path}/blue*")) == ["c.wav", "a.wav", "b.flac"]
    assert file_names(find_inputs(f"{tmp_path}/*/*.wav")) == ["c.wav", "a.wav", "d.wav"]
    assert file_names(find_inputs(f"{tmp_path}/**.flac")) == ["b.flac"]
    assert find_inputs(f"{tmp_path}/polka*").files == []


def test_a_list_of_clips_may_name_files_in_any_folder(tmp_path):
    write_clip(tmp_path / "x/rock/a.wav", 1)
    write_clip(tmp_path / "y/jazz/b.wav", 2)
    list_file = tmp_path / "list.txt"
    list_file.write_text(f"# my music\n\n{tmp_path}/x/rock/a.wav\ny/jazz/b.wav\ny/jazz/c.wav\n")
    discovery = find_inputs(str(list_file))
    assert [file.uri for file in discovery.files] == [f"{tmp_path}/x/rock/a.wav", f"{tmp_path}/y/jazz/b.wav"]
    assert reasons(discovery, tmp_path) == {"y/jazz/c.wav": "missing"}
    list_file.write_bytes(b"\x00\x01")
    with pytest.raises(CommandError, match="neither an archive") as raised:
        find_inputs(str(list_file))
    assert raised.value.exit_code == BAD_DATA


def make_archive(tmp_path, kind, members):
    """Write an archive with (name, bytes) members; a tar also contains a link."""
    path = tmp_path / f"music{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if kind != ".tar" else "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("rock/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.mark.parametrize("kind", archives.ENDINGS)
def test_members_of_an_archive_are_read_in_place(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives, "INDEX_SPACING_BYTES", 1 << 20)
    contents = {f"rock/{n}.wav": os.urandom(900_000) for n in range(5)}
    members = [("Data/", b""), *contents.items(), ("../out.wav", b"x"), ("/etc/x.wav", b"x")]
    has_folders = kind == ".zip"
    path = make_archive(
        tmp_path, kind, [member for member in members if has_folders or not member[0].endswith("/")]
    )
    for renamed in (path, tmp_path / "no-extension"):  # recognized by the name, then by the content
        path.rename(renamed)
        discovery = find_inputs(str(renamed))
        assert relative_paths(discovery) == sorted(contents)
        links = {} if kind == ".zip" else {"rock/link.wav": "not_a_file"}
        assert {file.uri.partition("!/")[2]: file.reason for file in discovery.rejected} == {
            "../out.wav": "unsafe_path",
            "/etc/x.wav": "unsafe_path",
            **links,
        }
        stage_indexes(discovery.indexes, str(tmp_path))
        opener = Opener(str(tmp_path))
        for file in reversed(discovery.files):  # to seek backwards, too
            with opener.open(file.uri, file.archive_uri, file.offset, file.size) as stream:
                assert stream.read(10) == contents[file.relative_path][:10]
                stream.seek(-5, os.SEEK_END)
                assert stream.read() == contents[file.relative_path][-5:]
                stream.seek(0)
                assert stream.read() == contents[file.relative_path]
        opener.close()
        path = renamed


@pytest.mark.parametrize("kind", archives.ENDINGS)
def test_a_truncated_archive_gives_the_members_before_its_end(tmp_path, kind):
    path = make_archive(tmp_path, kind, [(f"rock/{n}.wav", os.urandom(100_000)) for n in range(4)])
    path.write_bytes(path.read_bytes()[:250_000])
    discovery = find_inputs(str(path))
    assert [file.reason for file in discovery.rejected] == ["corrupt_archive"]
    assert relative_paths(discovery)[:2] == ([] if kind == ".zip" else ["rock/0.wav", "rock/1.wav"])


def test_object_storage_is_searched_like_a_folder(storage_server, tmp_path):
    from preprocessing.storage import beam_files

    root = f"{storage_server}/sources"
    for name in ("rock/a.wav", "jazz/b.wav"):
        beam_files.write(f"{root}/{name}", b"audio")
    beam_files.write(f"{root}/rock/", b"")  # a folder created in the web console
    assert relative_paths(find_inputs(root)) == ["jazz/b.wav", "rock/a.wav"]
    assert [file.uri for file in find_inputs(f"{root}/ro*/*").files] == [f"{root}/rock/a.wav"]
    beam_files.write(f"{root}.txt", f"{root}/jazz/b.wav\nsources/rock/a.wav\n".encode())
    assert [file.uri for file in find_inputs(f"{root}.txt").files] == [
        f"{root}/jazz/b.wav",
        f"{root}/rock/a.wav",
    ]
    path = make_archive(tmp_path, ".zip", [("pop/c.wav", b"zipped")])
    beam_files.write(f"{root}.zip", path.read_bytes())
    (file,) = find_inputs(f"{root}.zip").files
    with Opener("").open(file.uri, file.archive_uri, file.offset, file.size) as stream:
        assert stream.read() == b"zipped"
    assert archives.MEMBER_SEPARATOR in file.uri
