"""The files of a run as a training writes them, with noise for music, and pages parsed as HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.reporting.wav import write_wav

RATE_HZ = 3_000
NAMES = ["00", "01"]


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text outside styles and scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("style", "script"):
            self.text += data

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attributes[name] for other, attributes in self.tags if other == tag and name in attributes]


def epoch(number: int, **changes: Any) -> dict[str, Any]:
    """Return the metrics of an epoch."""
    metrics = {"epoch": number, "train_elbo": -9_000.5 + number, "test_elbo": -9_100.5 + number}
    metrics |= {"train_log_likelihood": -8_000.0, "test_log_likelihood": -8_100.0, "train_kl": 1_000.0}
    metrics |= {"test_kl": 1_001.0, "test_snr_db": 3.25, "epoch_secs": 50.0, "clips_per_sec": 12.0}
    return metrics | changes


def write_metrics(run: Path, *epochs: dict[str, Any]) -> None:
    """Write the metrics of a run."""
    (run / "metrics.jsonl").write_text("".join(json.dumps(metrics) + "\n" for metrics in epochs))


def write_generated(run: Path, *clips: tuple[str, str, str]) -> None:
    """Write silence as the generated clips of a run, each a mode, a title and a genre; one of each mode."""
    entries = []
    for mode, title, genre in clips:
        (run / "generated" / mode).mkdir(parents=True)
        write_wav(run / f"generated/{mode}/00.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
        entries.append({"file": f"{mode}/00.wav", "mode": mode, "title": title, "genre": genre, "from": None})
    (run / "generated/music.json").write_text(json.dumps(entries))


def write_run(run: Path, **settings: Any) -> Path:
    """Write a run of two epochs over two clips of a second."""
    samples = run / "samples"
    noise = np.random.default_rng(0)
    for folder in ("originals", "epoch-0001", "epoch-0002"):
        (samples / folder).mkdir(parents=True)
    for name in NAMES:
        clip = noise.uniform(-0.5, 0.5, RATE_HZ).astype(np.float32)
        write_wav(samples / f"originals/{name}.wav", clip, RATE_HZ)
        for gain, folder in ((0.5, "epoch-0001"), (0.9, "epoch-0002")):
            write_wav(samples / folder / f"reconstruction-{name}.wav", clip * gain, RATE_HZ)
            write_wav(samples / folder / f"new-{name}.wav", clip[::-1] * gain, RATE_HZ)
    clips = [{"name": name, "track_id": f"jazz.000{name}", "genre": "jazz"} for name in NAMES]
    (samples / "clips.json").write_text(json.dumps(clips))
    Image.new("RGB", (60, 40), "navy").save(samples / "training.gif")
    dataset = {
        "uri": "data",
        "genres": ["jazz"],
        "counts": {"train": {"jazz": 40}, "test": {"jazz": 5}},
        "sample_rate_hz": RATE_HZ,
    }
    config = {"preset": "wave", "epochs": 2, "program": "gtzan-cvae 0.1.0", "dataset": dataset}
    (run / "config.json").write_text(json.dumps({**config, **settings}))
    write_metrics(run, epoch(1), epoch(2))
    return run
