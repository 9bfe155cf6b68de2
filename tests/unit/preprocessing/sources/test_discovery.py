"""Folders, patterns, lists and archives, with all that strangers put into them."""

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


def reasons(found, root):
    return {os.path.relpath(one.uri, root): one.reason for one in found.rejected}


def names(found):
    return [file.relative_path for file in found.files]


def test_a_folder_is_walked_to_its_end_and_what_is_no_file_is_named(tmp_path):
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
    found = find_inputs(str(root))
    assert names(found) == ["jazz/er/a.wav", "rock/b c'\".wav", "rock/deep/er/a.wav"]
    assert reasons(found, root) == {
        "rock/folder.wav": "is_folder",
        "rock/gone.wav": "broken_link",
        "rock/round": "looping_link",
        "rock/self.wav": "broken_link",
        "rock/pipe.wav": "not_a_file",
    }


def test_a_folder_without_permission_is_named(tmp_path):
    write_clip(tmp_path / "rock/a.wav", 1)
    write_clip(tmp_path / "shut/b.wav", 2)
    (tmp_path / "shut").chmod(0)
    # The superuser may read everything, so another user looks.
    program = (
        "import os\n"
        "from preprocessing.sources.discovery import find_inputs\n"
        "os.getuid() or os.setuid(65534)\n"
        "found = find_inputs('.')\n"
        "print([one.relative_path for one in found.files], [(one.uri, one.reason) for one in found.rejected])"
    )
    tmp_path.chmod(0o755)
    try:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (tmp_path / "shut").chmod(0o755)
    assert run.stdout.strip() == "['rock/a.wav'] [('shut', 'no_permission')]", run.stderr


def test_a_pattern_matches_files_and_folders(tmp_path):
    for name in ("blues/a.wav", "blues/b.flac", "bluegrass/c.wav", "rock/d.wav"):
        write_clip(tmp_path / name, 1)
    assert [uri.rpartition("/")[2] for uri, *_ in find_inputs(f"{tmp_path}/blue*").files] == [
        "c.wav",
        "a.wav",
        "b.flac",
    ]
    assert [uri.rpartition("/")[2] for uri, *_ in find_inputs(f"{tmp_path}/*/*.wav").files] == [
        "c.wav",
        "a.wav",
        "d.wav",
    ]
    assert [uri.rpartition("/")[2] for uri, *_ in find_inputs(f"{tmp_path}/**.flac").files] == ["b.flac"]
    assert find_inputs(f"{tmp_path}/polka*").files == []


def test_a_list_names_files_of_any_place(tmp_path):
    write_clip(tmp_path / "x/rock/a.wav", 1)
    write_clip(tmp_path / "y/jazz/b.wav", 2)
    given = tmp_path / "list.txt"
    given.write_text(f"# my music\n\n{tmp_path}/x/rock/a.wav\ny/jazz/b.wav\ny/jazz/c.wav\n")
    found = find_inputs(str(given))
    assert [source.uri for source in found.files] == [
        f"{tmp_path}/x/rock/a.wav",
        f"{tmp_path}/y/jazz/b.wav",
    ]
    assert reasons(found, tmp_path) == {"y/jazz/c.wav": "missing"}
    given.write_bytes(b"\x00\x01")
    with pytest.raises(CommandError, match="neither an archive") as raised:
        find_inputs(str(given))
    assert raised.value.exit_code == BAD_DATA


def packed(tmp_path, kind, members):
    """An archive of the kind, with (name, bytes) members."""
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
def test_members_of_an_archive_are_read_where_they_lie(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives, "INDEX_SPACING_BYTES", 1 << 20)
    contents = {f"rock/{n}.wav": os.urandom(900_000) for n in range(5)}
    members = [("Data/", b""), *contents.items(), ("../out.wav", b"x"), ("/etc/x.wav", b"x")]
    path = packed(tmp_path, kind, [one for one in members if kind == ".zip" or not one[0].endswith("/")])
    for given in (path, tmp_path / "nameless"):  # by its name, and by its content
        path.rename(given)
        found = find_inputs(str(given))
        assert names(found) == sorted(contents)
        links = {} if kind == ".zip" else {"rock/link.wav": "not_a_file"}
        assert {one.uri.partition("!/")[2]: one.reason for one in found.rejected} == {
            "../out.wav": "unsafe_path",
            "/etc/x.wav": "unsafe_path",
            **links,
        }
        stage_indexes(found.indexes, str(tmp_path))
        opener = Opener(str(tmp_path))
        for source in reversed(found.files):  # jumping back, as well
            with opener.open(source.uri, source.archive_uri, source.offset, source.size) as stream:
                assert stream.read(10) == contents[source.relative_path][:10]
                stream.seek(-5, os.SEEK_END)
                assert stream.read() == contents[source.relative_path][-5:]
                stream.seek(0)
                assert stream.read() == contents[source.relative_path]
        opener.close()
        path = given


@pytest.mark.parametrize("kind", archives.ENDINGS)
def test_a_cut_archive_gives_what_comes_before_the_cut(tmp_path, kind):
    path = packed(tmp_path, kind, [(f"rock/{n}.wav", os.urandom(100_000)) for n in range(4)])
    path.write_bytes(path.read_bytes()[:250_000])
    found = find_inputs(str(path))
    assert [one.reason for one in found.rejected] == ["damaged_archive"]
    assert names(found)[:2] == ([] if kind == ".zip" else ["rock/0.wav", "rock/1.wav"])


def test_object_storage_is_a_folder_too(storage_server, tmp_path):
    from preprocessing.storage import beam_files

    root = f"{storage_server}/sources"
    for name in ("rock/a.wav", "jazz/b.wav"):
        beam_files.write(f"{root}/{name}", b"audio")
    beam_files.write(f"{root}/rock/", b"")  # as the web console makes folders
    assert names(find_inputs(root)) == ["jazz/b.wav", "rock/a.wav"]
    assert [source.uri for source in find_inputs(f"{root}/ro*/*").files] == [f"{root}/rock/a.wav"]
    beam_files.write(f"{root}.txt", f"{root}/jazz/b.wav\nsources/rock/a.wav\n".encode())
    assert [one.uri for one in find_inputs(f"{root}.txt").files] == [
        f"{root}/jazz/b.wav",
        f"{root}/rock/a.wav",
    ]
    path = packed(tmp_path, ".zip", [("pop/c.wav", b"zipped")])
    beam_files.write(f"{root}.zip", path.read_bytes())
    found = find_inputs(f"{root}.zip")
    (source,) = found.files
    with Opener("").open(source.uri, source.archive_uri, source.offset, source.size) as stream:
        assert stream.read() == b"zipped"
    assert archives.MEMBER_SEPARATOR in source.uri
