"""The arguments of the containers, parsed by the programs' own parsers."""

from __future__ import annotations

import argparse

import storage_emulator

import trainer.cli.parser
from preprocessing.commands import job
from preprocessing.pipeline.beam_flags import complete_beam_flags
from support.cluster.manifests import Rendered


def preprocessing_flags(args: list[str]) -> argparse.Namespace:
    """Parse the arguments of a preprocessing; a flag that neither it nor Beam knows is an error."""
    flags, beam_flags = job.build_parser("preprocessing").parse_known_args(args)
    complete_beam_flags(beam_flags)
    return flags


PARSERS = {
    "preprocessing": preprocessing_flags,
    "trainer": lambda args: trainer.cli.parser.build_parser().parse_args(args),
    "storage-emulator": lambda args: storage_emulator.build_parser().parse_args(args),
}


def flags_of(rendered: Rendered, kind: str, name: str, job_name: str = "a-job") -> argparse.Namespace:
    """Parse a container's arguments."""
    workload = rendered.workload(kind, name)
    return PARSERS[workload.container["name"]](rendered.args(workload, job_name))
