"""The exception that rejects an audio file."""

from __future__ import annotations


class BadAudioError(Exception):
    """A file that cannot become a record.

    Attributes:
        reason: A key of `preprocessing.dataset.quarantine.REASONS`.
        detail: What exactly is wrong, for the user. The same file always gives the same text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both as arguments, so that workers can pickle the exception
        self.reason = reason
        self.detail = detail
