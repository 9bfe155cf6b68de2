"""Archives with a fault give everything that is not affected by it, and a line says what is missing."""

import gzip
import io
import lzma
import os
import zipfile

import pytest
import zstandard
from support.inputs.archive_files import COMPRESSIONS, pack_members

from preprocessing.sources.decompression import BZIP2, GZIP, XZ, ZSTANDARD, DecompressedStream
from preprocessing.sources.discovery import find_inputs
from preprocessing.sources.opener import Opener, stage_archives

MEMBERS = {f"rock/{number}.wav": os.urandom(100_000) for number in range(8)}
MEMBER_BYTES = 512 + 100_352  # in a tar: a header, and whole blocks
COMPRESSED = {
    **{kind: compress for kind, compress in COMPRESSIONS.items() if kind != ".tar"},
    ".tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,  # as the program does
}


def read(folder, kind, data):
    """Return the members of an archive in a folder that can be read, and the reasons of the others."""
    (folder / f"music{kind}").write_bytes(data)
    discovery = find_inputs(str(folder))
    reasons = [(file.uri.partition("!/")[2], file.reason, file.detail) for file in discovery.rejected]
    stage_archives(discovery.compressed_archives, str(folder / "staging"))
    opener, contents = Opener(str(folder / "staging")), {}
    for file in discovery.files:
        try:
            with opener.open(file.uri, file.archive_uri, file.offset) as stream:
                contents[file.relative_path] = stream.read()
        except Exception as error:
            reasons.append((file.relative_path, "corrupt_archive", str(error)))
    opener.close()
    return contents, reasons


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input/staging").mkdir()
    return tmp_path / "input"


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_the_members_after_a_corrupt_header_are_read(folder, kind):
    tar = bytearray(pack_members(".tar", MEMBERS))
    tar[3 * MEMBER_BYTES + 10] ^= 1  # in the name of the fourth
    contents, reasons = read(folder, kind, COMPRESSIONS[kind](bytes(tar)))
    assert contents == {name: data for name, data in MEMBERS.items() if name != "rock/3.wav"}
    assert reasons == [("", "corrupt_archive", f"bad checksum at byte {3 * MEMBER_BYTES}")]


@pytest.mark.parametrize("cut", [0, 200])  # at the end of a member, and within a header
def test_an_archive_that_is_cut_off_says_so(folder, cut):
    tar = pack_members(".tar", MEMBERS)[: 4 * MEMBER_BYTES + cut]
    contents, reasons = read(folder, ".tar", tar)
    assert list(contents) == list(MEMBERS)[:4]
    assert "its end mark is missing" in reasons[0][2]


@pytest.mark.parametrize("kind", COMPRESSED)
def test_a_fault_in_compressed_data_leaves_what_comes_before_it(folder, kind):
    data = bytearray(COMPRESSED[kind](pack_members(".tar", MEMBERS)))
    data[-8 if kind == ".tar.gz" else len(data) * 3 // 4] ^= 0xFF  # gzip: of the checksum
    contents, reasons = read(folder, kind, bytes(data))
    assert all(MEMBERS[name] == content for name, content in contents.items())
    # bzip2 has blocks of 900 kB, of which the first is affected.
    assert len(contents) >= {".tar.bz2": 0, ".tar.gz": 7}.get(kind, 4)
    assert reasons[0][:2] == ("", "corrupt_archive")
    assert {reason for _, reason, _ in reasons} == {"corrupt_archive"}


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_data_without_its_last_bytes_has_all_members(folder, kind):
    contents, reasons = read(folder, kind, COMPRESSED[kind](pack_members(".tar", MEMBERS))[:-4])
    assert contents == MEMBERS
    assert reasons == [("", "corrupt_archive", "the compressed data ends too early")]


@pytest.mark.parametrize("kind", COMPRESSED)
@pytest.mark.parametrize("rest", [bytes(1_000), b"junk" * 100], ids=["zeros", "junk"])
def test_what_follows_compressed_data_is_left_out(folder, kind, rest):
    contents, reasons = read(folder, kind, COMPRESSED[kind](pack_members(".tar", MEMBERS)) + rest)
    assert (contents, reasons) == (MEMBERS, [])


def test_a_zip_that_another_one_precedes_says_so(folder):
    first, second = (pack_members(".zip", {f"rock/{name}.wav": b"x" * 500}) for name in "ab")
    contents, reasons = read(folder, ".zip", first + second)
    assert contents == {"rock/b.wav": b"x" * 500}
    assert reasons == [("", "corrupt_archive", "another zip archive precedes and is not read")]


def test_a_zip_behind_a_shell_script_is_read(folder):
    contents, reasons = read(folder, ".zip", b"#!/bin/sh\nexit\n" + pack_members(".zip", MEMBERS))
    assert (contents, reasons) == (MEMBERS, [])


@pytest.mark.parametrize(
    ("compression", "compress"),
    [
        (GZIP, gzip.compress),
        (BZIP2, COMPRESSED[".tar.bz2"]),
        (XZ, lzma.compress),
        (ZSTANDARD, zstandard.compress),
    ],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_a_compressed_stream_is_read_in_pieces_and_several_streams_are_one(compression, compress):
    parts = [os.urandom(50_000), bytes(3_000_000), os.urandom(200_000)]
    stream = DecompressedStream(io.BytesIO(b"".join(map(compress, parts))), compression)
    data = b"".join(parts)
    assert stream.read(10) == data[:10]
    assert stream.seek(49_000) == stream.tell() == 49_000
    assert stream.read(2_000) == data[49_000:51_000]
    assert stream.seek(50_488) == 50_488  # back by a header
    assert stream.read(512) == data[50_488:51_000]
    assert stream.seek(3_100_000) == 3_100_000
    assert stream.read() == data[3_100_000:]
    assert (stream.read(5), stream.error) == (b"", "")
    with pytest.raises(OSError, match="backwards"):
        stream.seek(0)


def test_frames_of_other_programs_in_zstandard_are_skipped():
    frame = zstandard.compress(b"music")
    skipped = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    stream = DecompressedStream(io.BytesIO(frame + skipped + frame), ZSTANDARD)
    assert (stream.read(), stream.error) == (b"musicmusic", "")


def test_a_failing_disk_is_no_fault_of_the_data():
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        DecompressedStream(Failing(b"x"), BZIP2).read(1)


def test_a_damaged_member_of_a_zip_with_bzip2_is_corrupt_and_not_unreadable(folder):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("rock/a.wav", MEMBERS["rock/0.wav"])
    data = bytearray(stream.getvalue())
    data[len(data) // 2] ^= 0xFF
    contents, reasons = read(folder, ".zip", bytes(data))
    assert contents == {}
    assert reasons == [("rock/a.wav", "corrupt_archive", "Invalid data stream")]


def test_an_archive_that_cannot_be_read_is_a_line_and_the_others_are_read(folder, monkeypatch):
    from preprocessing.storage import beam_files

    (folder / "bad.tar").write_bytes(pack_members(".tar", MEMBERS))
    open_stream = beam_files.open_stream

    def refuse(uri):
        if uri.endswith("bad.tar"):
            raise PermissionError(13, "Permission denied")
        return open_stream(uri)

    monkeypatch.setattr(beam_files, "open_stream", refuse)
    contents, reasons = read(folder, ".tar", pack_members(".tar", {"jazz/a.wav": b"y"}))
    assert contents == {"jazz/a.wav": b"y"}
    assert reasons == [("", "no_permission", "Permission denied")]


def test_a_member_of_negative_size_does_not_lead_back(folder):
    tar = bytearray(pack_members(".tar", MEMBERS))
    header = tar[MEMBER_BYTES : MEMBER_BYTES + 512]
    header[124:136] = b"\xff" * 10 + (-2_048).to_bytes(2, "big", signed=True)  # in base 256
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    tar[MEMBER_BYTES : MEMBER_BYTES + 512] = header
    contents, reasons = read(folder, ".tar", bytes(tar))
    assert contents == {name: data for name, data in MEMBERS.items() if name != "rock/1.wav"}
    assert reasons == [("", "corrupt_archive", f"negative size at byte {MEMBER_BYTES}")]
