"""Archives of folder trees, as programs write them."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from pathlib import Path

import zstandard

COMPRESSIONS = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
KINDS = (".zip", *COMPRESSIONS)


def pack_folder(folder, kind):
    """Return the bytes of an archive of everything below a folder, links included."""
    return _zip_folder(folder) if kind == ".zip" else COMPRESSIONS[kind](_tar_folder(folder))


def pack_members(kind, members):
    """Return the bytes of an archive with the members `{name: bytes}`, or `[(name, bytes), ...]`."""
    items = members.items() if isinstance(members, dict) else members
    stream = io.BytesIO()
    if kind == ".zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in items:
                archive.writestr(name, data)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in items:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return COMPRESSIONS[kind](stream.getvalue())


def _tar_folder(folder):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, ".")
    return stream.getvalue()


def _zip_folder(folder):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(Path(folder).rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, str(path.readlink()))
            elif path.is_dir() or path.is_file():
                archive.write(path, name)
    return stream.getvalue()
