"""Read lists of files: text, one path or URI per line, as people and programs on any system save it."""

from __future__ import annotations

import codecs
import os
import re
from urllib.parse import unquote

MAX_LIST_BYTES = 256 << 20
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LINE_END = re.compile(r"\r\n|\n|\r")  # and no other character, since names may contain those
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")  # as Beam has it
SUPPORTED_SCHEMES = ("gs",)
DRIVE = re.compile(r"^[A-Za-z]:[/\\]")


def read_lines(data: bytes) -> list[str] | None:
    """Return the lines of a text file without their ends; None if it is not text.

    Text without a byte-order mark that is not UTF-8 is decoded with surrogates, as the names of files are.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            break
    else:
        text = data.decode("utf-8", "surrogateescape")
    return None if CONTROL_CHARACTERS.search(text) else LINE_END.split(text)


def spellings(line: str) -> list[str]:
    """Return what a line of a list may mean, the most literal first; nothing if it is empty.

    A name may have spaces at its ends, or quotation marks around it, and Windows has another separator. Of `file://`
    URIs, the spellings are paths.
    """
    stripped = line.strip()
    candidates = [line] if stripped else []
    candidates.append(stripped)
    if len(stripped) > 2 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        candidates.append(stripped[1:-1])
    with_slashes = [path.replace("\\", "/") for path in candidates]
    in_latin_1 = [_as_latin_1(path) for path in candidates]
    paths = map(local_path, (*candidates, *with_slashes, *in_latin_1))
    return [path for path in dict.fromkeys(paths) if path]


def local_path(uri: str) -> str:
    """Return the path that a `file://` URI names, and anything else unchanged."""
    if not uri.lower().startswith("file://"):
        return uri
    path = re.sub(r"^(localhost)?(?=/)", "", uri[len("file://") :])
    return path if os.path.lexists(path) else unquote(path)


def unsupported_scheme(uri: str) -> str:
    """Return the scheme of a URI if it names a storage system that cannot be read, or ""."""
    match = SCHEME.match(uri)
    return match[1] if match and match[1].lower() not in SUPPORTED_SCHEMES else ""


def _as_latin_1(path: str) -> str:
    """Return a path whose bytes are not UTF-8 as Windows would read it; other paths unchanged."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return path
