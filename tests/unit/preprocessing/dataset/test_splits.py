import hashlib

import pytest

from preprocessing.dataset import splits
from preprocessing.dataset.splits import Track, fill_empty_splits, hash_splits, parse_track, reference_splits


@pytest.mark.parametrize(
    ("uri", "track"),
    [
        ("a/blues/blues.00007.wav", Track("blues.00007", "blues", 7)),
        ("gs://b/x/jazz/jazz.00018.au", Track("jazz.00018", "jazz", 18)),
        ("rock/rock.00000.MP3", Track("rock.00000", "rock", 0)),
        ("a/новая музыка/новая музыка.1.flac", Track("новая музыка.1", "новая музыка", 1)),
        ("a/blues/rock.00007.wav", Track("blues.rock.00007", "blues", None)),
        ("a/blues/blues.seven.wav", Track("blues.blues.seven", "blues", None)),
        ("Kind of Blue/So What.flac", Track("Kind of Blue.So What", "Kind of Blue", None)),
        ("noise/hiss", Track("noise.hiss", "noise", None)),
        ("blues.00007.wav", None),
        ("/blues.00007.wav", None),
        ("../blues.00007.wav", None),
    ],
)
def test_genre_and_track_id_are_parsed_from_the_path(uri, track):
    assert parse_track(uri) == track


def test_the_reference_split_follows_the_notebooks_lists():
    assert len(set(splits.REFERENCE_TRAIN_NUMBERS)) == 13
    assert len(set(splits.REFERENCE_TEST_NUMBERS)) == 12
    assert splits.REFERENCE_IN_BOTH == (45,)
    assert reference_splits(Track("classical.00045", "classical", 45)) == ("train", "test")
    assert reference_splits(Track("classical.00000", "classical", 0)) == ("train",)
    assert reference_splits(Track("classical.00004", "classical", 4)) == ("test",)
    assert reference_splits(Track("classical.00001", "classical", 1)) == ()


def test_the_hash_split_follows_the_digest_and_is_near_80_10_10():
    counts = dict.fromkeys(splits.SPLITS, 0)
    for genre in splits.GENRES:
        for number in range(100):
            track = Track(f"{genre}.{number:05d}", genre, number)
            (split,) = hash_splits(track)
            counts[split] += 1
            percent = int(hashlib.sha256(track.track_id.encode()).hexdigest()[:16], 16) % 100
            assert split == ("train" if percent < 80 else "validation" if percent < 90 else "test")
    assert sum(counts.values()) == 1_000
    assert abs(counts["train"] - 800) < 40
    assert abs(counts["test"] - 100) < 30


def moves_of(split_of):
    """Return what `fill_empty_splits` moves, of recordings in the given splits."""
    members = {split: [name for name in split_of if split_of[name] == split] for split in splits.SPLITS}
    smallest = {split: sorted(names, key=splits.id_digest)[:3] for split, names in members.items()}
    return fill_empty_splits({split: len(names) for split, names in members.items()}, smallest)


@pytest.mark.parametrize("count", range(1, 30))
def test_no_split_of_three_recordings_is_empty_and_one_at_most_moves_to_each(count):
    split_of = {f"band.take {number}": "train" for number in range(count)}
    moves = moves_of(split_of)
    assert sorted(moves.values()) == ["test", "validation"][: count - 1]
    assert sorted(moves, key=splits.id_digest) == sorted(split_of, key=splits.id_digest)[: len(moves)]
    assert moves_of(split_of | moves) == {}


def test_a_split_is_filled_from_the_largest_one():
    split_of = {"a.1": "test", "a.2": "validation", "a.3": "validation"}
    assert set(moves_of(split_of).values()) == {"train"}
    assert set(moves_of(split_of)) < {"a.2", "a.3"}
    assert moves_of({"a.1": "test", "a.2": "test"}).keys() < {"a.1", "a.2"}
    assert moves_of({"a.1": "test"}) == {}
