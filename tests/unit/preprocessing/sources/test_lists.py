"""Lists of files, as people and programs on any system save them."""

import codecs

import pytest
from support.tiny_corpus import write_clip

from preprocessing.errors import USAGE, CommandError
from preprocessing.sources.discovery import find_inputs


def find(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    return find_inputs(str(tmp_path / "list.txt"))


def names(discovery, tmp_path):
    return [file.uri.removeprefix(f"{tmp_path}/") for file in discovery.files]


def reasons(discovery, tmp_path):
    return {file.uri.removeprefix(f"{tmp_path}/"): file.reason for file in discovery.rejected}


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
        lambda text: text.encode("cp1252"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_list_may_have_any_encoding_and_line_end(tmp_path, encode, line_end):
    paths = ["Música/a.wav", "rock/b.wav"]
    for number, path in enumerate(paths):
        write_clip(tmp_path / path, number)
    discovery = find(tmp_path, encode(line_end.join(["# my music", "", *paths, ""])))
    assert (names(discovery, tmp_path), discovery.rejected) == (paths, [])


def test_a_line_may_be_a_path_or_uri_in_any_spelling(tmp_path):
    for number, path in enumerate(("rock/a b.wav", "rock/#1 hit.wav", "rock/ c.wav", "rock/d\u2028e.wav")):
        write_clip(tmp_path / path, number)
    lines = [
        "rock/a b.wav",
        "./rock//a b.wav",
        f"{tmp_path}/rock/../rock/a b.wav",
        f"file://{tmp_path}/rock/a%20b.wav",
        f"file://localhost{tmp_path}/rock/a b.wav",
        '"rock\\a b.wav"',
        "rock/#1 hit.wav ",
        "rock/ c.wav",
        "rock/d\u2028e.wav",
    ]
    discovery = find(tmp_path, "\n".join(lines).encode())
    expected = ["rock/ c.wav", "rock/#1 hit.wav", "rock/a b.wav", "rock/d\u2028e.wav"]
    assert (names(discovery, tmp_path), discovery.rejected) == (expected, [])


def test_a_list_may_name_folders_and_archives_and_each_file_once(tmp_path):
    from support.inputs.archive_files import pack_members

    write_clip(tmp_path / "x/rock/a.wav", 1)
    write_clip(tmp_path / "x/jazz/b.wav", 2)
    (tmp_path / "more.zip").write_bytes(pack_members(".zip", {"pop/c.wav": b"c"}))
    discovery = find(tmp_path, b"x\nmore.zip\nx/rock/a.wav\n#x\nmore.zip\n")
    assert names(discovery, tmp_path) == ["more.zip!/pop/c.wav", "x/jazz/b.wav", "x/rock/a.wav"]


def test_what_a_list_names_and_cannot_be_read_has_its_own_reason(tmp_path):
    write_clip(tmp_path / "rock/a.wav", 1)
    (tmp_path / "rock/link.wav").symlink_to("nowhere")
    lines = ["rock/a.wav", "rock/gone.wav", "rock/link.wav", "http://example.com/b.wav", "s3://bucket/c.wav"]
    lines += ["file:///nowhere/e.wav", '"gopher://example.com/f.wav"', "a://g.wav", "C:\\Music\\d.wav"]
    discovery = find(tmp_path, "\n".join(lines).encode())
    assert names(discovery, tmp_path) == ["rock/a.wav"]
    assert reasons(discovery, tmp_path) == {
        "rock/gone.wav": "missing",
        "rock/link.wav": "broken_link",
        "http://example.com/b.wav": "unsupported_storage",
        "s3://bucket/c.wav": "unsupported_storage",
        "/nowhere/e.wav": "missing",
        "gopher://example.com/f.wav": "unsupported_storage",
        "a://g.wav": "unsupported_storage",
        "C:\\Music\\d.wav": "missing",
    }


def test_an_input_on_a_storage_system_that_is_not_supported_is_refused():
    with pytest.raises(CommandError, match="s3 is not supported") as raised:
        find_inputs("s3://bucket/music")
    assert raised.value.exit_code == USAGE
