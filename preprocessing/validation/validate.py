"""The `inspect` command: verify a whole dataset, then print its faults or its statistics."""

from __future__ import annotations

import itertools

from preprocessing.dataset import versions
from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest, compute_statistics
from preprocessing.dataset.output import foreign_file_error
from preprocessing.dataset.quarantine import HARMLESS_REASONS
from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import DataError
from preprocessing.html.page import is_own_page
from preprocessing.storage import beam_files
from preprocessing.storage.gcs import await_credentials
from preprocessing.validation.checks import DatasetValidator
from preprocessing.validation.contents import DatasetContents
from preprocessing.validation.report import MEASURES, measured_values, write_page

MAX_SHOWN_FAULTS = 40


def inspect_dataset(uri: str, html: str | None = None) -> str:
    """Verify every file of a dataset and return a table of statistics, as text.

    Args:
        uri: A dataset, or a folder of versions, of which the latest is inspected; local or `gs://`.
        html: Where to write a page about the dataset, local or `gs://`; none is written if there are faults.

    Raises:
        CommandError: There is no dataset, or it has faults, which are printed first (exit code 3).
    """
    await_credentials(uri, html or "")
    latest = versions.latest_version(uri)
    folder = latest or uri
    manifest = _read_manifest(folder)
    validator = DatasetValidator(folder, manifest)
    if latest and not latest.endswith(manifest.digest):
        fault = f"its digest is {manifest.digest}, but LATEST names another one"
        validator.add_fault(MANIFEST_NAME, fault)
    if html is not None and beam_files.exists(html) and not is_own_page(beam_files.read(html)):
        raise foreign_file_error("html", html)
    validator.run(keep_examples=html is not None)
    _report_faults(folder, validator.faults)
    lines = _table(validator.contents)
    if html is not None:
        name = uri.rstrip("/").rpartition("/")[2]
        page = write_page(name, validator.contents)
        beam_files.write(html, page.encode("utf-8", "backslashreplace"))
        lines.append(f"{html}: a page about the dataset, with one clip of each genre")
    return "\n".join(lines)


def _read_manifest(folder: str) -> Manifest:
    uri = beam_files.join(folder, MANIFEST_NAME)
    if not beam_files.exists(uri):
        raise DataError(f"{uri} does not exist: name the folder of a dataset, or preprocess into it")
    return Manifest.from_json(beam_files.read(uri), uri)


def _report_faults(folder: str, faults: list[str]) -> None:
    """Print the faults, and raise if there are any."""
    for fault in faults[:MAX_SHOWN_FAULTS]:
        print(" ".join(fault.split()))  # a name may contain newlines
    if faults:
        hidden = len(faults) - MAX_SHOWN_FAULTS
        more = f" ({hidden} not shown)" if hidden > 0 else ""
        raise DataError(
            f"{folder} is corrupt, faults found: {len(faults)}{more}; delete it and preprocess again",
        )


def _table(contents: DatasetContents) -> list[str]:
    """Return the lines that the command prints for a dataset without faults."""
    manifest = contents.manifest
    shards = [manifest.split_shards(split) for split in SPLITS]
    rows = [
        ["genre", *SPLITS, "duration", *(f"{name} {unit}" for name, unit in MEASURES.values())],
        *(_table_row(contents, genre) for genre in (*manifest.genres, None)),
        ["shards", *(str(len(split_shards)) for split_shards in shards)],
        ["MB", *(f"{sum(shard.bytes for shard in split_shards) / 1e6:.1f}" for split_shards in shards)],
    ]
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return [
        *lines,
        f"keys: {contents.keys_summary()}",
        _rejected_line("quarantined", manifest, harmless=False),
        _rejected_line("skipped", manifest, harmless=True),
        f"{contents.folder}: digest {manifest.digest[:12]}",
        f"verified: {contents.verified_summary()}",
    ]


def _table_row(contents: DatasetContents, genre: str | None) -> list[str]:
    """Return clips per split, duration and mean attributes of one genre, or of all; a dash means no value."""
    clips = [f"{count:,}" for count in contents.clip_counts(genre)]
    statistics = (compute_statistics(measured_values(contents, name, genre)) for name in MEASURES)
    means = [f"{attribute.mean:.1f}" if attribute else "-" for attribute in statistics]
    return [genre or "all", *clips, contents.duration(genre), *means]


def _rejected_line(label: str, manifest: Manifest, harmless: bool) -> str:
    """Return the number of rejected files by reason: of those with faults, or of the harmless ones."""
    counts = {
        reason: count
        for reason, count in manifest.quarantined.items()
        if (reason in HARMLESS_REASONS) == harmless
    }
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    return f"{label}: {sum(counts.values())}" + (f" ({reasons})" if reasons else "")
