"""The Dockerfile, parsed: its stages, entry points and environment."""

from __future__ import annotations

import json
import re
from pathlib import Path

# Continued lines are joined.
TEXT = re.sub(r"\\\n\s*", "", Path(__file__).parents[3].joinpath("Dockerfile").read_text())
STAGES = {
    re.search(r" AS (\S+)$", part, re.M)[1]: part for part in re.split(r"^(?=FROM )", TEXT, flags=re.M)[1:]
}


def entry_point(target: str) -> list[str]:
    """Return the command that a container of this image runs, without arguments."""
    return json.loads(re.search(r"^ENTRYPOINT (.+)$", STAGES[target], re.M)[1])


def environment() -> dict[str, str]:
    """Return the environment variables that every image sets."""
    return dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.+)$", STAGES["runtime"], re.M)[1]))
