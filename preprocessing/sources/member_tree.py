"""The files of an archive as they would lie in a folder after it was unpacked, with every link resolved.

Nothing is unpacked. Later members replace earlier ones of the same name, links share the content of their target,
and a link to a folder gives the folder's files again, as when a folder is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from preprocessing.sources.hidden import hidden_part

MAX_HOPS = 40  # from link to link, as in Linux
MAX_FOLLOWED_FOLDERS = 1_000  # links to folders: nested ones multiply
MAX_DEPTH = 500  # folders in one another
DRIVE = re.compile(r"^[A-Za-z]:(?=[/\\])")


class EntryKind(Enum):
    """What an archive says that a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"


class Entry(NamedTuple):
    """A member as the archive has it."""

    name: str
    kind: EntryKind
    offset: int  # of its first header: in the decompressed tar, or in the zip
    size: int
    stamp: str  # changes with the content, as far as the archive shows
    target: str = ""  # of a link
    problem: str = ""  # why it cannot be read, a key of `REASONS`, or empty
    detail: str = ""


class Member(NamedTuple):
    """A file of the tree, or what stands in its place."""

    name: str
    size: int
    offset: int
    stamp: str
    problem: str = ""  # as in `Entry`
    detail: str = ""


Folder = dict[str, "Folder | Entry"]


def unpack(entries: list[Entry]) -> Iterator[Member]:
    """Yield the files that unpacking `entries` in their order would give, and what it would not give."""
    tree = _Tree()
    for entry in entries:
        if problem := tree.add(entry):
            yield problem
    yield from tree.walk()


class _Tree:
    """Folders, files and symbolic links."""

    def __init__(self) -> None:
        self._root: Folder = {}
        self._followed_folders = 0

    def add(self, entry: Entry) -> Member | None:
        """Add an entry; return what has to be said about it or about the one that it replaces, if anything."""
        parts = _split(entry.name)
        if not parts:
            return None
        if ".." in parts:
            return _report(entry, entry.name, "unsafe_path", "its path leads outside of the archive")
        name = "/".join(parts)
        if len(parts) > MAX_DEPTH:
            return _report(entry, name, "unsafe_path", f"more than {MAX_DEPTH} folders in one another")
        if entry.kind is EntryKind.HARD_LINK:
            target = self._find(_split(entry.target))
            if not isinstance(target, Entry):
                detail = f"a link to {entry.target}, which is not in the archive before it"
                return _report(entry, name, "broken_link", detail)
            entry = target._replace(name=name)
        folder = self._make_folder(parts[:-1])
        if folder is None:
            return _report(entry, name, "unsafe_path", "the archive has a file in the place of its folder")
        previous = folder.get(parts[-1])
        if entry.kind is EntryKind.FOLDER:
            if previous is None:
                folder[parts[-1]] = {}
            return None
        if isinstance(previous, dict) and previous:
            return _report(entry, name, "unsafe_path", "the archive has a folder in its place")
        folder[parts[-1]] = entry
        if isinstance(previous, Entry) and previous.offset != entry.offset:
            detail = "another member of this name follows, which tar and unzip would put in its place"
            return _report(previous, name, "superseded", detail)
        return None

    def walk(self) -> Iterator[Member]:
        """Yield the files, following links and leaving out hidden folders, each with one line."""
        stack: list[tuple[tuple[str, ...], Folder, tuple[int, ...]]] = [((), self._root, ())]
        while stack:
            parts, folder, ancestors = stack.pop()
            ancestors = (*ancestors, id(folder))
            for child_name, child in folder.items():
                path = (*parts, child_name)
                name = "/".join(path)
                if why := hidden_part(child_name):
                    yield Member(name, 0, 0, "", "hidden", why)
                    continue
                node: Folder | Entry | None = child
                if isinstance(child, Entry) and child.kind is EntryKind.SYMLINK:
                    node = self._follow(parts, child)
                if node is None:
                    yield Member(name, 0, 0, "", "broken_link", _broken_link(child))
                elif isinstance(node, Entry):
                    yield Member(name, node.size, node.offset, node.stamp, node.problem, node.detail)
                elif why := self._why_not_entered(node, node is not child, ancestors):
                    yield Member(name, 0, 0, "", "looping_link", why)
                else:
                    stack.append((path, node, ancestors))

    def _why_not_entered(self, folder: Folder, is_link: bool, ancestors: tuple[int, ...]) -> str:
        """Return why a folder, found in its place or by a link, is not entered, or ""."""
        self._followed_folders += is_link
        if id(folder) in ancestors:
            return "a link to a folder that contains it"
        is_too_many = self._followed_folders > MAX_FOLLOWED_FOLDERS or len(ancestors) > MAX_DEPTH
        return "too many links to folders" if is_too_many else ""

    def _follow(self, folder: tuple[str, ...], link: Entry) -> Folder | Entry | None:
        """Return what a link in a folder points to; None if that is outside of the archive or not there."""
        if link.target.startswith("/"):
            return None
        found = self._resolve([*folder, *link.target.split("/")])
        return None if found is None else found[1]

    def _find(self, parts: list[str]) -> Folder | Entry | None:
        """Return the node at a path without following links at its end."""
        folder = self._resolve(parts[:-1])
        if folder is None or not isinstance(folder[1], dict) or not parts:
            return None
        return folder[1].get(parts[-1])

    def _make_folder(self, parts: list[str]) -> Folder | None:
        """Return the folder at a path, made where it is missing; None if something else is in its place."""
        folder, path = self._root, []
        for part in parts:
            path.append(part)
            node = folder.setdefault(part, {})
            if isinstance(node, Entry):
                found = self._resolve(path)
                if found is None or isinstance(found[1], Entry):
                    return None
                path, node = found[0], found[1]
            folder = node
        return folder

    def _resolve(self, parts: list[str]) -> tuple[list[str], Folder | Entry] | None:
        """Follow a path and the links in it; return the path without links, and the node."""
        pending, path, hops = parts[::-1], list[str](), 0
        current: Folder | Entry = self._root
        parents: list[Folder] = []
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not path:
                    return None
                path.pop()
                current = parents.pop()
                continue
            if not isinstance(current, dict) or part not in current:
                return None
            child = current[part]
            if isinstance(child, Entry) and child.kind is EntryKind.SYMLINK:
                hops += 1
                if hops > MAX_HOPS or child.target.startswith("/"):
                    return None
                pending.extend(reversed(child.target.split("/")))
                continue
            parents.append(current)
            path.append(part)
            current = child
        return path, current


def _split(name: str) -> list[str]:
    """Return the parts of a name, relative as tar and unzip make it: without root, drive and `.`."""
    return [part for part in DRIVE.sub("", name).split("/") if part not in ("", ".")]


def _report(entry: Entry, name: str, problem: str, detail: str) -> Member:
    return Member(name, entry.size, entry.offset, entry.stamp, problem, detail)


def _broken_link(link: Folder | Entry) -> str:
    target = link.target if isinstance(link, Entry) else ""
    return f"a link to {target}, which is not in the archive"
