"""Archives give what unpacking them would give, and say so where they do not."""

import io
import os
import tarfile
import zipfile

import pytest
from support.inputs.archive_files import COMPRESSIONS, KINDS, pack_folder, pack_members

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.sources import archives
from preprocessing.sources.discovery import find_inputs
from preprocessing.sources.opener import Opener, stage_archives

FIRST, SECOND = b"first" * 1_000, b"second" * 1_000


def find(tmp_path, data, name="music.bin"):
    (tmp_path / name).write_bytes(data)
    return find_inputs(str(tmp_path / name))


def member_reasons(discovery):
    return {file.uri.partition("!/")[2]: file.reason for file in discovery.rejected}


def read_members(discovery, staging):
    """Return relative path -> content, read as a worker does."""
    stage_archives(discovery.compressed_archives, str(staging))
    opener = Opener(str(staging))
    contents = {}
    for file in reversed(discovery.files):  # to seek backwards, too
        with opener.open(file.uri, file.archive_uri, file.offset) as stream:
            contents[file.relative_path] = stream.read()
            assert len(contents[file.relative_path]) == file.size
            stream.seek(0)
            assert stream.read(10) == contents[file.relative_path][:10]
    opener.close()
    return contents


def make_tree(root):
    """Make a folder with everything that tar and zip can store."""
    for folder in ("rock/deep", ".git/jazz", "...And Justice for All", "empty", "A.flac"):
        (root / folder).mkdir(parents=True)
    (root / "rock/a.wav").write_bytes(FIRST)
    (root / "rock/deep/b.wav").write_bytes(SECOND)
    (root / "...And Justice for All/c.wav").write_bytes(b"c")
    (root / "A.flac/d.wav").write_bytes(b"")
    (root / ".git/jazz/e.wav").write_bytes(b"e")
    (root / "rock/._a.wav").write_bytes(b"f")
    (root / "at the root.wav").write_bytes(b"g")
    os.link(root / "rock/a.wav", root / "rock/hard.wav")
    links = {
        "rock/soft.wav": "deep/../a.wav",
        "jazz": "rock/deep",
        "through.wav": "jazz/b.wav",
        "gone.wav": "nowhere.wav",
        "self.wav": "self.wav",
        "rock/deep/up": "..",
        "outside": "../../elsewhere",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_of_a_folder_gives_what_the_folder_gives(tmp_path, kind):
    root = tmp_path / "tree"
    make_tree(root)
    if kind != ".zip":  # Python writes no such names
        (root / os.fsdecode(b"rock/M\xfasica.wav")).write_bytes(b"h")
    folder, archive = find_inputs(str(root)), find(tmp_path, pack_folder(root, kind))
    assert read_members(archive, tmp_path) == read_members(folder, tmp_path)
    assert "jazz/b.wav" in read_members(archive, tmp_path)
    assert member_reasons(archive) == {
        os.path.relpath(file.uri, root): file.reason for file in folder.rejected
    }
    assert set(member_reasons(archive).values()) == {"hidden", "broken_link", "looping_link"}


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_an_archive_are_read_in_place(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives, "INDEX_SPACING_BYTES", 1 << 20)
    contents = {f"rock/{n}.wav": os.urandom(700_000) for n in range(4)}
    discovery = find(tmp_path, pack_members(kind, contents))
    assert read_members(discovery, tmp_path) == contents


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_made_relative_and_none_leads_outside(tmp_path, kind):
    names = ("/rock/a.wav", "./rock//b.wav", "C:/rock/c.wav", "../rock/d.wav", "rock/../../e.wav")
    discovery = find(tmp_path, pack_members(kind, dict.fromkeys(names, b"x")))
    assert [file.relative_path for file in discovery.files] == ["rock/a.wav", "rock/b.wav", "rock/c.wav"]
    assert member_reasons(discovery) == {"../rock/d.wav": "unsafe_path", "rock/../../e.wav": "unsafe_path"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_several_members_of_one_name_counts(tmp_path, kind):
    members = [("rock/a.wav", FIRST), ("rock/b.wav", b"b"), ("./rock/a.wav", SECOND), ("rock", b"a file")]
    discovery = find(tmp_path, pack_members(kind, members))
    assert read_members(discovery, tmp_path) == {"rock/a.wav": SECOND, "rock/b.wav": b"b"}
    assert member_reasons(discovery) == {"rock/a.wav": "superseded", "rock": "unsafe_path"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive_gives_the_members_before_its_end(tmp_path, kind):
    data = pack_members(kind, {f"rock/{n}.wav": os.urandom(100_000) for n in range(4)})
    discovery = find(tmp_path, data[:250_000])
    assert [file.reason for file in discovery.rejected] == ["corrupt_archive"]
    found = [file.relative_path for file in discovery.files][:2]
    one_block = kind in (".zip", ".tar.bz2")  # no directory, and no whole block of 900 kB
    assert found == ([] if one_block else ["rock/0.wav", "rock/1.wav"])


def test_the_content_decides_what_an_archive_is(tmp_path):
    root = tmp_path / "music"
    (root / "jazz").mkdir(parents=True)
    files = {
        "a.tar.gz": pack_members(".tar", {"rock/a.wav": FIRST}),
        "b.zip": pack_members(".tar.xz", {"rock/b.wav": FIRST}),
        "jazz/album.tgz": pack_members(".zip", {"c.wav": FIRST}),
        "page.zip": b"<!DOCTYPE html><html>404</html>",
        "empty.tar": b"",
        "more.rar": b"Rar!\x1a\x07\x01\x00more",
        "a.wav.gz": COMPRESSIONS[".tar.gz"](FIRST),
        "nested.tar": pack_members(".tar", {"rock/inner.zip": b"x", "rock/d.wav": b"d"}),
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    discovery = find_inputs(str(root))
    paths = ["jazz/c.wav", "rock/a.wav", "rock/b.wav", "rock/d.wav"]
    assert sorted(file.relative_path for file in discovery.files) == paths
    assert {os.path.relpath(file.uri, root): file.reason for file in discovery.rejected} == {
        "page.zip": "not_archive",
        "empty.tar": "not_archive",
        "more.rar": "unsupported_archive",
        "a.wav.gz": "unsupported_archive",
        "nested.tar!/rock/inner.zip": "unsupported_archive",
    }


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("page.tar.gz", b"\n<html>404</html>", "a web page"),
        ("music.rar", b"Rar!\x1a\x07\x01\x00more", "a RAR archive"),
        ("music.zip", b"", "an empty file"),
        ("sound.wav", b"RIFF\0\0\0\0WAVE", "neither an archive"),
    ],
)
def test_a_single_file_that_is_no_archive_is_called_what_it_is(tmp_path, name, data, what):
    with pytest.raises(CommandError, match=what) as raised:
        find(tmp_path, data, name)
    assert raised.value.exit_code == BAD_DATA


@pytest.mark.parametrize("file_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_special_members_of_a_tar_are_named(tmp_path, file_format):
    stream = io.BytesIO()
    long_name = "rock/" + "long " * 40 + ".wav"
    with tarfile.open(fileobj=stream, mode="w", format=file_format) as archive:
        for name, member_type, target in [
            ("rock/pipe.wav", tarfile.FIFOTYPE, ""),
            ("rock/before.wav", tarfile.LNKTYPE, "rock/after.wav"),
            ("rock/unknown.wav", b"Z", ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = member_type, target
            archive.addfile(info)
        for name in ("rock/after.wav", "rock/" + "x" * 90 if "U" in str(file_format) else long_name[:90]):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"data"))
    discovery = find(tmp_path, stream.getvalue())
    assert member_reasons(discovery) == {"rock/pipe.wav": "not_a_file", "rock/before.wav": "broken_link"}
    assert sorted(read_members(discovery, tmp_path).values()) == [b"", b"data", b"data"]


def gnu_sparse_tar():
    """A tar with a sparse member of the old GNU format: 4 bytes of data at 1,024, in 2,048."""
    header = tarfile.TarInfo("rock/sparse.wav")
    header.size, header.type = 512, tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (1_024, 512)  # the only range: its offset and size
    block[483:495] = b"%011o\0" % 2_048  # the real size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"data".ljust(512, b"\0") + bytes(1_024)


def test_a_sparse_member_has_its_holes(tmp_path):
    contents = read_members(find(tmp_path, gnu_sparse_tar()), tmp_path)
    assert contents == {"rock/sparse.wav": bytes(1_024) + b"data" + bytes(1_020)}


def test_a_tar_that_follows_another_is_not_lost_silently(tmp_path):
    data = pack_members(".tar", {"rock/a.wav": b"a"}) + pack_members(".tar", {"rock/b.wav": b"b"})
    discovery = find(tmp_path, data)
    assert [file.relative_path for file in discovery.files] == ["rock/a.wav"]
    assert [file.detail for file in discovery.rejected] == ["another tar archive follows and is not read"]


def zip_with(raw_name, system=3, flags=0, extra=b"", method=None):
    """A zip with one member whose name is these bytes; the maker's system, flags and method are as given."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("N" * len(raw_name))
        info.create_system, info.extra = system, extra
        archive.writestr(info, b"data")
    data = bytearray(stream.getvalue().replace(b"N" * len(raw_name), raw_name))
    central = data.index(b"PK\x01\x02")
    for position in (6, central + 8):
        data[position : position + 2] = flags.to_bytes(2, "little")
    if method is not None:
        for position in (8, central + 10):
            data[position : position + 2] = method.to_bytes(2, "little")
    return bytes(data)


def unicode_path_field(name, raw_name):
    content = b"\x01" + archives.zlib.crc32(raw_name).to_bytes(4, "little") + name.encode()
    return (0x7075).to_bytes(2, "little") + len(content).to_bytes(2, "little") + content


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (zip_with("Música/a.wav".encode(), flags=0x800), "Música/a.wav"),
        (zip_with("Música/a.wav".encode()), "Música/a.wav"),  # macOS
        (zip_with("Música/a.wav".encode("cp437"), system=0), "Música/a.wav"),
        (
            zip_with(b"M\xfasica/a.wav"),
            "M\udcfasica/a.wav",
        ),  # Unix in another encoding: bytes, as in a folder
        (zip_with(b"rock\\a.wav", system=0), "rock/a.wav"),
        (zip_with(b"rock/AC\\DC.wav"), "rock/AC\\DC.wav"),
        (zip_with(b"M?/a.wav", extra=unicode_path_field("Ж/a.wav", b"M?/a.wav")), "Ж/a.wav"),
        (zip_with(b"M?/a.wav", extra=unicode_path_field("Ж/a.wav", b"another")), "M?/a.wav"),
    ],
)
def test_names_in_a_zip_are_those_that_its_maker_meant(tmp_path, data, path):
    assert read_members(find(tmp_path, data), tmp_path) == {path: b"data"}


def test_members_of_a_zip_that_cannot_be_read_say_why(tmp_path):
    assert member_reasons(find(tmp_path, zip_with(b"rock/a.wav", flags=1))) == {"rock/a.wav": "encrypted"}
    deflate64 = find(tmp_path, zip_with(b"rock/a.wav", method=9))
    assert member_reasons(deflate64) == {"rock/a.wav": "unsupported_archive"}


@pytest.mark.parametrize(
    ("flags", "version"),
    [(0x20, 20), (0x40, 20), (0, 118)],  # patched data, strong encryption, a version to come
)
def test_a_zip_of_another_kind_of_program_says_so(tmp_path, flags, version):
    data = bytearray(zip_with(b"rock/a.wav", flags=flags))
    data[data.index(b"PK\x01\x02") + 6] = version
    discovery = find(tmp_path, bytes(data))
    assert [file.reason for file in discovery.rejected] == ["corrupt_archive"] * (version > 63)
    for file in discovery.files:
        with pytest.raises(zipfile.BadZipFile, match=r"patched data|encryption"):
            read_members(discovery, tmp_path)
        assert file.relative_path == "rock/a.wav"


def test_a_zip_behind_a_program_is_read(tmp_path):
    data = b"MZ" + bytes(1_000) + pack_members(".zip", {"rock/a.wav": b"a"})
    assert read_members(find(tmp_path, data), tmp_path) == {"rock/a.wav": b"a"}
