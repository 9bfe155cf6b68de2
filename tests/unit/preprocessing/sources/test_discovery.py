"""Discovery in folders, by patterns and on object storage."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from support.tiny_corpus import write_clip

from preprocessing.sources.discovery import find_inputs
from preprocessing.sources.opener import Opener


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
    write_clip(root / "Artist - Album.flac/c.wav", 3)
    write_clip(root / "...And Justice for All/d.wav", 4)
    (root / "rock/gone.wav").symlink_to("nowhere.wav")
    (root / "rock/round").symlink_to(root, target_is_directory=True)
    (root / "rock/self.wav").symlink_to("self.wav")
    (root / "jazz").symlink_to(root / "rock/deep", target_is_directory=True)
    write_clip(root / ".cache/c.wav", 5)
    write_clip(root / "rock/._a.wav", 5)
    os.mkfifo(root / "rock/pipe.wav")
    discovery = find_inputs(str(root))
    assert relative_paths(discovery) == [
        "...And Justice for All/d.wav",
        "Artist - Album.flac/c.wav",
        "jazz/er/a.wav",
        "rock/b c'\".wav",
        "rock/deep/er/a.wav",
    ]
    assert reasons(discovery, root) == {
        ".cache": "hidden",
        "rock/._a.wav": "hidden",
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


def test_object_storage_is_searched_like_a_folder(storage_server, tmp_path):
    from preprocessing.storage import beam_files

    root = f"{storage_server}/sources"
    for name in ("rock/a.wav", "jazz/b.wav"):
        beam_files.write(f"{root}/{name}", b"audio")
    beam_files.write(f"{root}/rock/", b"")  # a folder created in the web console
    for name in ("a.wav", "b.wav"):
        beam_files.write(f"{root}/.trash/{name}", b"audio")
    discovery = find_inputs(root)
    assert relative_paths(discovery) == ["jazz/b.wav", "rock/a.wav"]
    assert [(file.uri, file.reason) for file in discovery.rejected] == [(f"{root}/.trash", "hidden")]
    assert [file.uri for file in find_inputs(f"{root}/ro*/*").files] == [f"{root}/rock/a.wav"]
    beam_files.write(f"{root}.txt", f"{root}/jazz/b.wav\nsources/rock/a.wav\n".encode())
    assert [file.uri for file in find_inputs(f"{root}.txt").files] == [
        f"{root}/jazz/b.wav",
        f"{root}/rock/a.wav",
    ]
    with zipfile.ZipFile(tmp_path / "music.zip", "w") as archive:
        archive.writestr("pop/c.wav", b"zipped")
    beam_files.write(f"{root}.zip", (tmp_path / "music.zip").read_bytes())
    (file,) = find_inputs(f"{root}.zip").files
    with Opener("").open(file.uri, file.archive_uri, file.offset) as stream:
        assert stream.read() == b"zipped"
    assert file.uri == f"{root}.zip!/pop/c.wav"
