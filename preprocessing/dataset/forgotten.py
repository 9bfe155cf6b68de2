"""`forgotten.json` beside the versions of a dataset: what must not be used any more. Standard library only."""

from __future__ import annotations

import json
from typing import NamedTuple

from preprocessing.errors import DataError

FORGOTTEN_NAME = "forgotten.json"


class Forgotten(NamedTuple):
    """The content of `forgotten.json`."""

    datasets: frozenset[str] = (
        frozenset()
    )  # digests of versions that models were trained on with such a recording
    recordings: frozenset[str] = frozenset()  # SHA-256 of their files

    def to_json(self) -> bytes:
        """Serialize to indented JSON."""
        fields = {name: sorted(values) for name, values in self._asdict().items()}
        return (json.dumps(fields, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes | None, uri: str) -> Forgotten:
        """Parse the content of `forgotten.json`; None stands for no such file.

        Raises:
            CommandError: The content is corrupt (exit code 3).
        """
        if content is None:
            return cls()
        try:
            fields = json.loads(content)
            return cls(*(frozenset(map(str, fields[name])) for name in cls._fields))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{uri} is corrupt: restore it from a backup") from error
