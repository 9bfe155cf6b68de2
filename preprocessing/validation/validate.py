"""Is a dataset what its manifest says? `inspect` reads all of it, and tells its faults or its figures."""

from __future__ import annotations

import itertools

from preprocessing.dataset import versions
from preprocessing.dataset.manifest import NAME, Manifest, from_json, statistics
from preprocessing.dataset.quarantine import NOT_BAD
from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.storage import beam_files
from preprocessing.validation.checks import Reading
from preprocessing.validation.report import MEASURES, write_page

SHOWN_FAULTS = 40


def inspect(uri: str, html: str | None = None) -> str:
    """Verifies every shard of a dataset, and returns the table; writes one HTML page if asked.

    Args:
        uri: A dataset, or a folder of versions of one, whose `LATEST` is followed; local or `gs://`.
        html: The page's file, local or `gs://`; a damaged dataset gets none.

    Raises:
        CommandError: There is no dataset, or it has faults, which are printed before (exit code 3).
    """
    latest = versions.latest(uri)
    home = latest or uri
    reading = Reading(home, _manifest(home))
    if latest and not latest.endswith(reading.manifest.digest):
        reading.fault(NAME, f"its digest is {reading.manifest.digest}, not the one that LATEST names")
    reading.run(hear=html is not None)
    for fault in reading.faults[:SHOWN_FAULTS]:
        print(" ".join(fault.split()))  # a name may hold newlines
    if reading.faults:
        hidden = len(reading.faults) - SHOWN_FAULTS
        more = f", {hidden} of them not shown" if hidden > 0 else ""
        message = f"{home} is damaged, faults found: {len(reading.faults)}{more}"
        raise CommandError(f"{message}; delete it and preprocess again", BAD_DATA)
    lines = _table(reading)
    if html is not None:
        name = uri.rstrip("/").rpartition("/")[2]
        beam_files.write(html, write_page(name, reading).encode("utf-8", "backslashreplace"))
        lines.append(f"{html}: a page about it, with a clip of each genre")
    return "\n".join(lines)


def _manifest(home: str) -> Manifest:
    uri = beam_files.join(home, NAME)
    if not beam_files.exists(uri):
        raise CommandError(
            f"{uri} does not exist: name the folder of a dataset, or preprocess into it", BAD_DATA
        )
    return from_json(beam_files.read(uri), uri)


def _table(reading: Reading) -> list[str]:
    """The lines that the command ends with."""
    manifest = reading.manifest
    shards = [manifest.split_shards(split) for split in SPLITS]
    rows = [
        ["genre", *SPLITS, "duration", *(f"{name} {unit}" for name, unit in MEASURES.values())],
        *(_table_row(reading, genre) for genre in (*manifest.genres, None)),
        ["shards", *(str(len(of)) for of in shards)],
        ["MB", *(f"{sum(shard.bytes for shard in of) / 1e6:.1f}" for of in shards)],
    ]
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    for name, wanted in (("quarantined", False), ("left alone", True)):
        counts = {reason: of for reason, of in manifest.quarantined.items() if (reason in NOT_BAD) == wanted}
        reasons = ", ".join(f"{reason} {of}" for reason, of in counts.items())
        lines.append(f"{name}: {sum(counts.values())}" + (f" ({reasons})" if reasons else ""))
    return [*lines, f"{reading.home}: digest {manifest.digest[:12]}", f"verified: {reading.verified()}"]


def _table_row(reading: Reading, genre: str | None) -> list[str]:
    """Clips, duration and mean measures of a genre, or of all; a dash where none of them has the measure."""
    clips = [f"{count:,}" for count in reading.counts(genre)]
    measured = (statistics(reading.values(measure, genre)) for measure in MEASURES)
    means = [f"{of.mean:.1f}" if of else "-" for of in measured]
    return [genre or "all", *clips, reading.duration(genre), *means]
