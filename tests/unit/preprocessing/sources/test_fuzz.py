"""Fuzzing: archives and lists with random changes give files, a line in the quarantine or one sentence.

Other cases: `make fuzz`.
"""

import random
import signal
import sys
import tempfile
from pathlib import Path

from support.inputs.archive_files import KINDS, pack_members
from support.inputs.mutations import mutate

from preprocessing.dataset.quarantine import REASONS
from preprocessing.errors import CommandError
from preprocessing.sources.archives import CORRUPT_ARCHIVE_ERRORS
from preprocessing.sources.discovery import find_inputs
from preprocessing.sources.lists import read_lines
from preprocessing.sources.opener import Opener, stage_archives

SEED, CASES = 2_024, 300
MAX_CASE_SECS = 20
MAX_READ_BYTES = 1 << 20
MEMBERS = [
    ("rock/a.wav", bytes(range(256)) * 40),
    ("rock/b.wav", b"b" * 3_000),
    ("Música/c.wav", b"c" * 700),
    ("rock/a.wav", b"later"),
    ("../d.wav", b"d"),
    ("jazz/", b""),
]
LIST = 'rock/a.wav\r\n# comment\r\nrock/b.wav\n"rock/c d.wav"\nnowhere/e.wav\ngopher:f.wav\nrock\\a.wav\n'


def originals():
    """Return files of each kind: name -> bytes."""
    files = {f"archive{kind}": pack_members(kind, MEMBERS) for kind in KINDS}
    files |= {f"list-{encoding}.txt": LIST.encode(encoding) for encoding in ("utf-8-sig", "utf-16", "cp1252")}
    return files


def check(path, staging):
    """Find the files of an input and read them; whatever the bytes are, no other exceptions may be raised."""
    try:
        discovery = find_inputs(str(path))
        stage_archives(discovery.compressed_archives, str(staging))
    except (CommandError, *CORRUPT_ARCHIVE_ERRORS, OSError):
        return "refused"
    assert all(file.reason in REASONS and file.detail for file in discovery.rejected)
    opener = Opener(str(staging))
    for file in discovery.files:
        try:
            with opener.open(file.uri, file.archive_uri, file.offset) as stream:
                stream.read(MAX_READ_BYTES)
        except (*CORRUPT_ARCHIVE_ERRORS, OSError):
            continue
    opener.close()
    return "files" if discovery.files else "rejected"


def names_the_disk(data):
    """Return whether a line of a list is but dots and slashes: it names the root of the disk, which has many files."""
    return any(line.strip() and set(line) <= set("./\\ \"'") for line in read_lines(data) or ())


def run_case(seed, number, folder):
    rng = random.Random(f"{seed} {number}")
    files = originals()
    name = rng.choice(sorted(files))
    data = mutate(rng, files[name], list(files.values()))
    if name.startswith("list") and names_the_disk(data):
        return "rejected"
    path = folder / str(number) / name
    (path.parent / "rock").mkdir(parents=True)
    for sound in ("a.wav", "b.wav", "c d.wav"):
        (path.parent / "rock" / sound).write_bytes(b"sound")
    path.write_bytes(data)
    staging = path.parent / "staging"
    staging.mkdir()
    signal.alarm(MAX_CASE_SECS)
    try:
        return check(path, staging)
    finally:
        signal.alarm(0)


def test_randomly_changed_archives_and_lists_give_files_or_a_reason(tmp_path):
    assert {run_case(SEED, number, tmp_path) for number in range(CASES)} == {"files", "rejected", "refused"}


if __name__ == "__main__":
    seed, first, last = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            print(number, run_case(seed, number, Path(folder)), flush=True)
