"""The Dockerfile as the manifests need it: its stages, what they start, and in which environment."""

from __future__ import annotations

import json
import re
from pathlib import Path

# With its continued lines joined.
TEXT = re.sub(r"\\\n\s*", "", Path(__file__).parents[2].joinpath("Dockerfile").read_text())
STAGES = {
    re.search(r" AS (\S+)$", part, re.M)[1]: part for part in re.split(r"^(?=FROM )", TEXT, flags=re.M)[1:]
}


def entry_point(target: str) -> list[str]:
    """What a container of this image starts, before its args."""
    return json.loads(re.search(r"^ENTRYPOINT (.+)$", STAGES[target], re.M)[1])


def environment() -> dict[str, str]:
    """What every image sets."""
    return dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.+)$", STAGES["runtime"], re.M)[1]))
