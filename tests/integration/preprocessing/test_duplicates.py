"""Copies of recordings in other shards, as the whole job finds them."""

import json

import numpy as np
import pytest
import soundfile
from support.tiny_corpus import TINY

from preprocessing.__main__ import main
from preprocessing.pipeline import candidates, deduplicate

RATE_HZ = 8_000
RECORDINGS = 60


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Noises whose level changes, a third of them twice or three times: at another level, or the same file."""
    folder = tmp_path_factory.mktemp("music") / "band"
    folder.mkdir()
    for number in range(RECORDINGS):
        rng = np.random.default_rng(number)
        level = np.interp(np.arange(8_800), np.linspace(0, 8_800, 12), rng.uniform(0.02, 0.4, 12))
        audio = level * rng.normal(0, 0.5, 8_800)
        soundfile.write(folder / f"take {number:02d}.wav", audio, RATE_HZ)
        if number % 3 == 0:
            soundfile.write(folder / f"quiet {number:02d}.flac", 0.5 * audio, RATE_HZ)
        if number % 6 == 0:
            content = (folder / f"take {number:02d}.wav").read_bytes()
            (folder / f"same {number:02d}.wav").write_bytes(content)
    return folder.parent


def run(music, output, *flags):
    assert main(["--input", str(music), "--output", str(output), "--shards", "8", *TINY, *flags]) == 0
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def copies(files):
    rows = [json.loads(line) for line in files["quarantine.jsonl"].splitlines()]
    return {row["uri"].rsplit("/", 1)[1]: row["detail"].rsplit("/", 1)[1] for row in rows}


def test_of_each_set_of_copies_the_first_by_name_is_kept(music, tmp_path):
    expected = {}
    for number in range(0, RECORDINGS, 3):
        expected[f"take {number:02d}.wav"] = f"quiet {number:02d}.flac"
        if number % 6 == 0:
            expected[f"same {number:02d}.wav"] = f"quiet {number:02d}.flac"
    assert copies(run(music, tmp_path)) == expected


@pytest.mark.parametrize("workers", ["1", "3"])
def test_divided_among_cells_and_workers_the_search_gives_the_same_bytes(
    music, tmp_path, monkeypatch, workers
):
    whole = run(music, tmp_path / "whole")
    monkeypatch.setattr(candidates, "ROWS_PER_KEY", 20)
    monkeypatch.setattr(deduplicate, "MAX_LEAF", 20)
    assert deduplicate.FindCandidates(RECORDINGS).keys == 4
    divided = run(music, tmp_path / "divided", "--direct_num_workers", workers)
    assert divided == whole
