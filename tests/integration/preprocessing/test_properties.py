"""What must hold for any name and any clip, not only for those that one thinks of."""

import io
import string
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from preprocessing.dataset import example, records, tfrecord
from preprocessing.dataset.keys import KEYS
from preprocessing.dataset.splits import SPLITS, Track, hash_splits, parse_track
from preprocessing.options import Options
from preprocessing.pipeline.plan import SourceFile, make_plan

# Names as file systems have them: any bytes but NUL and slashes, which Python reads as surrogates.
name = st.binary(min_size=1, max_size=40).map(
    lambda data: data.replace(b"/", b"_").replace(b"\0", b"_").decode("utf-8", "surrogateescape")
)
text = st.one_of(
    name, st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
)
QUICK = settings(max_examples=200, deadline=None, derandomize=True)


@QUICK
@given(text, text, st.sampled_from(["wav", "au", "FLAC", "x"]), st.lists(text, max_size=3))
def test_any_path_in_a_folder_has_a_track_of_that_class(genre, stem, ending, above):
    track = parse_track("/".join([*above, genre, f"{stem}.{ending}"]))
    if genre in (".", ".."):
        assert track is None
        return
    assert track.genre == genre
    assert track.track_id.startswith(f"{genre}.")
    assert track == parse_track(
        "/".join([genre, f"{stem}.wav"])
    )  # neither the ending nor what is above counts


@QUICK
@given(st.text(string.ascii_letters, min_size=1), st.integers(0, 10**9), st.integers(0, 9))
def test_gtzans_own_names_are_their_ids(genre, number, zeros):
    digits = "0" * zeros + str(number)
    track = parse_track(f"x/{genre}/{genre}.{digits}.wav")
    assert track == Track(f"{genre}.{digits}", genre, number)


@QUICK
@given(text, text, st.integers(0, 10**6))
def test_a_track_is_in_one_split_and_stays_there(track_id, genre, number):
    (split,) = hash_splits(Track(track_id, genre, number))
    assert split in SPLITS
    assert hash_splits(Track(track_id, "elsewhere", None)) == (split,)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 400), min_size=2, max_size=30), st.integers(1, 9))
def test_a_new_file_moves_no_other_file_to_another_shard(numbers, shards):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "rock").mkdir()
        *before, new = sorted(numbers, key=lambda n: (n * 7919) % 401)
        for number in before:
            (path / f"rock/rock.{number}.wav").touch()
        options = Options(input=folder, output=f"{folder}/out", shards=shards)
        first = {clip.recording_id: clip for clip in make_plan(options).source_files}
        (path / f"rock/rock.{new}.wav").touch()
        after = make_plan(options)
        second = {clip.recording_id: clip for clip in after.source_files}
        assert {key: second[key] for key in first} == first
        assert len(second) == len(first) + 1


@QUICK
@given(
    arrays.arrays(np.float32, st.integers(0, 300), elements=st.floats(-1, 1, width=32)),
    text,
    text,
    st.integers(0, 2**31),
    st.tuples(*[st.floats(width=32, allow_nan=False)] * 4),
    st.builds(example.Key, st.sampled_from(["", *KEYS]), st.floats(width=32, allow_nan=False)),
)
def test_a_record_comes_back_as_it_was(audio, track_id, uri, valid_samples, attributes, key):
    record = example.Record(
        audio, track_id, uri, 3_000, valid_samples, "0" * 64, uri, example.Attributes(*attributes), key
    )
    stream = io.BytesIO(tfrecord.frame(example.encode(record)) * 2)
    assert list(tfrecord.record_offsets(stream)) == [0, len(stream.getvalue()) // 2]
    stream.seek(0)
    for payload in tfrecord.read_frames(stream):
        back = example.decode(payload)
        np.testing.assert_array_equal(back.audio, audio)
        assert back._replace(audio=None) == record._replace(audio=None)


@QUICK
@given(text, text, st.one_of(st.none(), st.floats(-100, 0)), st.integers(0, 10**9))
def test_a_parsed_line_equals_the_written_one(track_id, uri, level, size):
    shard = "train-00000-of-00001.tfrecord"
    entry = records.RecordEntry(
        track_id,
        track_id,
        uri,
        "train",
        shard,
        0.5,
        size,
        *(level, None, 90.0, 0.5),
        None,
        0.1,
        uri,
        "0",
        "ff",
    )
    assert records.RecordEntry.from_json(entry.to_json()) == entry
    clip = SourceFile(uri, "", 0, size, track_id, uri, shard)
    assert SourceFile.from_json(clip.to_json()) == clip
    assert "\n" not in entry.to_json() + clip.to_json()
