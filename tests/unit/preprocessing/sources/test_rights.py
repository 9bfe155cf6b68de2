import json
import shutil
import tarfile

import pytest
from support.tiny_corpus import TINY, write_clip

from preprocessing.__main__ import main as preprocess
from preprocessing.dataset.records import RecordEntry
from preprocessing.sources.discovery import find_inputs
from preprocessing.sources.rights import Rights, read_rights

CC_BY = "Creative Commons Attribution 4.0"
FILES = {
    "metadata.csv": "file_name,license\nblues/a.wav,of the table further up\n",
    "LICENSE": "\n# SPDX-License-Identifier: CC0-1.0\nThe whole text\n",
    "blues/metadata.csv": 'file_name;license;artist\na.wav;CC-BY-4.0;"Ann;\nBo"\nb.wav;;Cy\n',
    "rock/LICENCE.txt": f"## {CC_BY} ##\n\nYou are free to ...\n",
    "rock/live/metadata.csv": "PATH,License\n.\\d.wav,All rights reserved\n",
    **dict.fromkeys(
        ("blues/a.wav", "blues/b.wav", "rock/c.wav", "rock/live/d.wav", "rock/live/e.wav"), "RIFF"
    ),
}
RIGHTS = {
    "blues/a.wav": Rights("CC-BY-4.0", "Ann; Bo"),
    "blues/b.wav": Rights("CC0-1.0", "Cy"),
    "rock/c.wav": Rights(CC_BY),
    "rock/live/d.wav": Rights("All rights reserved"),
    "rock/live/e.wav": Rights(CC_BY),
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "music"


def rights_of(location):
    discovery = find_inputs(str(location))
    index = read_rights(discovery)
    audio = (file for file in discovery.files if file.uri.endswith(".wav"))
    return {file.relative_path: index.find(file.relative_path) for file in audio}


@pytest.mark.parametrize("kind", ["folder", "zip", "gztar", "bztar"])
def test_the_nearest_statement_counts_in_a_folder_and_in_archives(folder, tmp_path, kind):
    location = folder if kind == "folder" else shutil.make_archive(tmp_path / "archive", kind, folder)
    assert rights_of(location) == RIGHTS


@pytest.mark.parametrize(
    ("content", "rights"),
    [
        (b"\xef\xbb\xbffile_name,license\r\na.wav,MIT\r\n", Rights("MIT")),
        ("file_name\tlicense\na.wav\tGemeinfrei \u2013 \u00a7\n".encode("utf-16"), Rights("Gemeinfrei \u2013 \u00a7")),
        (b"file_name,license\nblues/a.wav,MIT\n", Rights()),  # a path below the table's folder, not above
        (b"title,license\na.wav,MIT\n", Rights()),
        (b"file_name,license\na.wav\nb.wav,MIT\n", Rights()),
        (b'file_name,license\na.wav,"' + b"x" * 200_000, Rights()),  # a field without an end
        (b"\0\1\2", Rights()),
        (b"", Rights()),
    ],
)  # fmt: skip
def test_tables_are_read_as_programs_save_them(tmp_path, content, rights):
    folder = tmp_path / "blues"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"RIFF")
    (folder / "metadata.csv").write_bytes(content)
    assert rights_of(tmp_path) == {"blues/a.wav": rights}


def test_statements_in_a_corrupt_archive_are_none(folder, tmp_path):
    with tarfile.open(tmp_path / "cut.tar", "w") as archive:
        archive.add(folder, "music")
    data = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:1_500])
    assert rights_of(tmp_path / "cut.tar") == {}


def test_records_state_them_and_a_changed_statement_makes_another_dataset(tmp_path):
    corpus, output = tmp_path / "music", tmp_path / "dataset"
    for number in range(3):
        write_clip(corpus / "blues" / f"{number}.wav", number)
    flags = ["--input", str(corpus), "--output", str(output), *TINY]

    def run():
        assert preprocess(flags) == 0
        lines = (output / "records.jsonl").read_text().splitlines()
        entries = [RecordEntry.from_json(line) for line in lines]
        digest = json.loads((output / "dataset.json").read_text())["digest"]
        return {(entry.license, entry.attribution) for entry in entries}, digest

    bare, before = run()
    (corpus / "LICENSE").write_text("CC0-1.0\n")
    licensed, after = run()
    assert (bare, licensed) == ({("", "")}, {("CC0-1.0", "")})
    assert before != after
