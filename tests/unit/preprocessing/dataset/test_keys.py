import pytest

from preprocessing.dataset.keys import KEYS, is_related, parse_key
from preprocessing.errors import USAGE, CommandError


def test_there_are_24_keys_and_each_parses_to_itself():
    assert len(set(KEYS)) == 24
    assert [parse_key(key) for key in KEYS] == [*KEYS]


@pytest.mark.parametrize(
    "text, key",
    [
        ("a minor", "A minor"),
        (" Bb  MAJOR ", "A# major"),
        ("Cb major", "B major"),
        ("b# minor", "C minor"),
        ("bb minor", "A# minor"),
    ],
)
def test_keys_are_parsed_in_any_spelling(text, key):
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "A", "H minor", "Am", "A dorian", "A## major", "A minor minor"])
def test_other_texts_are_refused_with_the_form(text):
    with pytest.raises(CommandError, match=r"is not a key: write a tonic from A to G") as caught:
        parse_key(text)
    assert caught.value.exit_code == USAGE


def test_related_keys_are_those_of_mirex():
    related = {key for key in KEYS if is_related("C major", key)}
    assert related == {"F major", "G major", "A minor", "C minor"}
    assert {key for key in KEYS if is_related("A minor", key)} == {"D minor", "E minor", "C major", "A major"}
    assert all(is_related(key, other) == is_related(other, key) for key in KEYS for other in KEYS)
