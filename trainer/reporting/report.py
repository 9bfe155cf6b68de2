"""One self-contained web page about a training run: its figures, its curves, and its clips to see and hear.

The page is made from the run's directory alone, long after the model and the data set are gone.
"""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
import soundfile

from preprocessing.html.numbers import format_number
from preprocessing.html.page import Show, Sound, data_uri, details, document, fact_list, gallery, same_scale
from trainer.reporting.charts import CHARTS, line_chart
from trainer.reporting.evaluation_section import evaluation_section
from trainer.reporting.figures import read_wav
from trainer.reporting.report_page import figure_table, note_card
from trainer.runs import rollbacks
from trainer.runs.directory import GENERATED, REPORT

_TRAIN_FIRST = "train at least one epoch into this folder, or name another run's"

_TEST_CLIPS = (
    "Clips the model never trained on. Press play, or click a picture to hear that moment. "
    "One colour scale serves all pictures, from the loudest original down by 80 dB."
)
_NEW_MUSIC = (
    "Decoded from the same few random latents in every epoch; no clip of the data stands behind them."
)

_MODES = {  # heading and lead of each mode to make music
    "prior": ("Made from nothing", "Drawn from the model's prior, one genre after the other."),
    "variation": ("Variations", "The test clips, encoded, moved in the latent space, and decoded."),
    "reconstruct": ("Through the model and back", "The test clips, told their genre and nothing else."),
    "interpolate": ("From one clip to another", "Steps through the latents of the first and last test clip."),
    "transfer": ("As another genre", "What happens in the test clip stays; what it sounds like changes."),
    "continue": ("Continued", "The first third is the test clip's own; then the model goes on."),
}


@dataclass(frozen=True)
class Pair:
    """A fixed test clip and what the model's last epoch made of it."""

    title: str
    genre: str
    original: Sound
    reconstruction: Sound

    def snr_db(self) -> float:
        """Compute the power of the original over that of the error, in dB, from the files to be heard."""
        samples = min(len(self.original.audio), len(self.reconstruction.audio))
        original = self.original.audio[:samples].astype(np.float64)
        error = original - self.reconstruction.audio[:samples]
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(10 * np.log10(np.sum(original**2) / np.sum(error**2)))


def write_report(run: Path, note: str = "", title: str = "", parameters: int | None = None) -> Path:
    """Write `report.html` into a run's directory.

    Args:
        run: a directory that training has filled: `config.json`, `metrics.jsonl` and `samples/`, and
            perhaps `generated/`, each of whose ways to make music becomes a section of the page.
        note: the model's own caveat, shown beside its final figures.
        title: the page's heading; the preset's name if empty.
        parameters: how many numbers the model has learned, where that is known.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: the directory lacks metrics or samples.
    """
    config = _read_config(run)
    epochs = _read_metrics(run)
    pairs, new = _read_samples(run)
    originals = [pair.original for pair in pairs]
    show = same_scale(originals, _top_hz(originals[0], config))
    sections = [
        evaluation_section(run),
        _gif_section(run),
        _pair_section(pairs, show),
        gallery("New music", _NEW_MUSIC, new, show),
    ]
    sections += [gallery(*_MODES[mode], sounds, show) for mode, sounds in _read_generated(run).items()]
    template = Template(resources.files("trainer.reporting").joinpath("report.html").read_text("utf-8"))
    body = template.substitute(
        facts=_facts(run, config, epochs, parameters),
        last_epoch=_last_epoch(epochs),
        figures=figure_table(epochs[-1]),
        note=note_card(" ".join([note, *map(str, rollbacks.read(run))]).strip()),
        charts="".join(line_chart(*chart, epochs) for chart in CHARTS),
        sections="".join(sections),
        config=details("The whole configuration", config),
    )
    page = document(title or f"{config.get('preset', run.name)}: a training run", body)
    path = run / REPORT
    path.write_text(page, "utf-8")
    return path


def _read_config(run: Path) -> dict:
    path = run / "config.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _setting(config: dict, name: str) -> int | None:
    """Find a setting of the run or, where it is a fact of the data, of its dataset."""
    return config.get(name, config.get("dataset", {}).get(name))


def _read_metrics(run: Path) -> list[dict[str, float]]:
    """Read the epochs in order; of an epoch that a resumed run repeated, the last."""
    epochs = {}
    for line in _existing(run / "metrics.jsonl").read_text("utf-8").splitlines():
        epoch = {name: math.nan if value is None else value for name, value in json.loads(line).items()}
        epochs[epoch["epoch"]] = epoch
    if not epochs:
        raise FileNotFoundError(f"{run}/metrics.jsonl is empty: {_TRAIN_FIRST}")
    return [epochs[epoch] for epoch in sorted(epochs)]


def _read_samples(run: Path) -> tuple[list[Pair], list[Sound]]:
    """Read the fixed clips with their last reconstructions, and the last new clips."""
    samples = run / "samples"
    clips = json.loads(_existing(samples / "clips.json").read_text("utf-8"))
    epochs = {int(folder.name.removeprefix("epoch-")): folder for folder in samples.glob("epoch-*")}
    if not clips or not epochs:
        raise FileNotFoundError(f"{samples} holds no clips of any epoch: {_TRAIN_FIRST}")
    last = epochs[max(epochs)]
    pairs = [
        Pair(
            title=clip.get("track_id", clip["name"]),
            genre=clip.get("genre", ""),
            original=_read_sound(samples / f"originals/{clip['name']}.wav", "Original"),
            reconstruction=_read_sound(last / f"reconstruction-{clip['name']}.wav", "Reconstruction"),
        )
        for clip in clips
    ]
    new = [_read_sound(path, path.stem.replace("new-", "New ")) for path in sorted(last.glob("new-*.wav"))]
    return pairs, new


def _read_generated(run: Path) -> dict[str, list[Sound]]:
    """Read the clips that were made after training, by the way they were made."""
    sounds: dict[str, list[Sound]] = {}
    listed = run / GENERATED / "music.json"
    for made in json.loads(listed.read_text("utf-8")) if listed.exists() else []:
        caption = made["title"] if made["genre"] in (None, made["title"]) else _caption(made)
        sounds.setdefault(made["mode"], []).append(_read_sound(run / GENERATED / made["file"], caption))
    return sounds


def _caption(made: dict) -> str:
    """The title, and the genre that was asked for where the title does not tell it."""
    return made["title"] if made["genre"] in made["title"] else f"{made['title']}, {made['genre']}"


def _read_sound(path: Path, caption: str) -> Sound:
    audio = read_wav(_existing(path))
    return Sound(caption, audio, soundfile.info(path).samplerate)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {_TRAIN_FIRST}")
    return path


def _top_hz(original: Sound, config: dict) -> float:
    """Half the data's rate, which a file that was written at a higher one does not have in it."""
    return min(original.sample_rate_hz, _setting(config, "sample_rate_hz") or original.sample_rate_hz) / 2


def _facts(run: Path, config: dict, epochs: list[dict[str, float]], parameters: int | None) -> str:
    dataset = config.get("dataset", {})
    rate_hz, samples = _setting(config, "sample_rate_hz"), _setting(config, "clip_samples")
    ended = datetime.fromtimestamp((run / "metrics.jsonl").stat().st_mtime, UTC)
    return fact_list(
        {
            "Preset": config.get("preset", ""),
            "Date": f"{ended:%d %b %Y}".lstrip("0"),
            "Epochs": format_number(epochs[-1]["epoch"], 0),
            "Training time": _duration(sum(epoch.get("epoch_secs", 0) for epoch in epochs)),
            "Parameters": format_number(parameters, 0) if parameters else "",
            "Audio": f"{rate_hz:,} Hz, {samples / rate_hz:.0f} s" if rate_hz and samples else "",
        },
        {
            "Genres": ", ".join(dataset.get("genres", [])),
            "Clips": ", ".join(
                f"{sum(clips.values()):,} {split}" for split, clips in dataset.get("counts", {}).items()
            ),
            "Dataset": dataset.get("uri", ""),
        },
    )


def _duration(secs: float) -> str:
    if not 0 < secs < math.inf:
        return ""
    minutes, rest = divmod(round(secs), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{secs:.1f} s"


def _last_epoch(epochs: list[dict[str, float]]) -> str:
    last = f"After epoch {epochs[-1]['epoch']}."
    scored = [epoch for epoch in epochs if math.isfinite(epoch.get("test_elbo", math.nan))]
    if not scored:
        return last
    best = max(scored, key=lambda epoch: epoch["test_elbo"])
    return f"{last} Best test ELBO: {format_number(best['test_elbo'])} nats, in epoch {best['epoch']}."


def _gif_section(run: Path) -> str:
    path = run / "samples/training.gif"
    if not path.exists():
        return ""
    picture = data_uri(path.read_bytes(), "image/gif")
    return (
        "<h2>Epoch by epoch</h2>"
        '<p class="soft">The same test clips and the same latents, rendered after each epoch.</p>'
        f'<img class="training" src="{picture}" alt="The rendered clips of each epoch in turn">'
    )


def _pair_section(pairs: list[Pair], show: Show) -> str:
    cards = "".join(
        f'<article class="card pair-card"><h3>{escape(pair.title)} '
        f"<small>{escape(pair.genre)} \N{MIDDLE DOT} signal-to-noise {format_number(pair.snr_db())} dB</small></h3>"
        f'<div class="pair">{show(pair.original)}{show(pair.reconstruction)}</div></article>'
        for pair in pairs
    )
    return f'<h2>Test clips</h2><p class="soft">{_TEST_CLIPS}</p>{cards}'
