"""Generate clips in each mode, as `Options` say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from preprocessing.errors import DataError, UsageError
from preprocessing.progress import Progress
from trainer.generation.generator import Generator
from trainer.generation.options import Options
from trainer.generation.sources import SourceClip

Argument = TypeVar("Argument")

CONTINUED_FRACTION = 1 / 3  # of a test clip that its continuation begins with; a user's file is kept whole


class GeneratedClips(NamedTuple):
    """The clips of one mode."""

    mode: str
    audio: Sequence[np.ndarray]  # of each clip [samples] float32 in [-1, 1]
    titles: list[str]
    genres: Sequence[str | None]  # the genre that each was conditioned on
    sources: Sequence[SourceClip]  # one for each clip, or none at all


def generate_all(
    generator: Generator, sources: Sequence[SourceClip], options: Options
) -> Iterator[GeneratedClips]:
    """Generate clips in each mode, with a progress bar; without source clips, only in the mode `prior`.

    Raises:
        CommandError: The model lacks a mode, or a genre, an attribute or a key is unknown (exit code 2), or there is no
            source clip for the modes (3).
    """
    modes = options.modes or generator.model.capabilities.modes
    for mode in modes:
        generator.require_mode(mode)
    if "transfer" in modes and options.to_genre is not None:
        generator.condition(1, options.to_genre)  # refuses an unknown genre
    if not sources and set(modes) != {"prior"}:
        reason = f"no source clip has the genre {options.genre}"
        modes = tuple(mode for mode in modes if mode == "prior")
        if not modes:
            raise DataError(f"{reason}: name a dataset with `data` or files with `from`")
        print(
            f"{reason}: generating in the mode prior only; to use other source clips, name a dataset with --data or "
            "files with --from"
        )
    elif sources:
        modes = _possible_modes(generator, modes, sources, options)
    with Progress("generating", len(modes), "modes") as progress:
        for mode in modes:
            yield generate_mode(generator, mode, sources, options)
            progress.advance()


def generate_mode(
    generator: Generator, mode: str, sources: Sequence[SourceClip], options: Options
) -> GeneratedClips:
    """Generate the clips of one mode; raises as `generate_all`."""
    if mode != "interpolate" and not options.sources:
        sources = sources[: options.count]  # which has two at least, for an interpolation
    return _GENERATE[mode](generator, sources, options)


def _possible_modes(
    generator: Generator, modes: Sequence[str], sources: Sequence[SourceClip], options: Options
) -> tuple[str, ...]:
    """Leave out modes that these source clips are not for, with a line; raise if the user has chosen them."""
    problems = {
        "interpolate": _why_no_interpolation(sources, options),
        "continue": _why_no_continuation(generator, sources, options),
    }
    for mode, problem in problems.items():
        if problem and mode in options.modes:
            raise UsageError(problem)
        if problem and mode in modes:
            print(f"the mode {mode} is left out: {problem}")
    return tuple(mode for mode in modes if not problems.get(mode))


def _sample(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres: list[str | None] = [options.genre] * options.count
    if options.genre is None and generator.model.capabilities.conditional:
        genres = [generator.genres[index % len(generator.genres)] for index in range(options.count)]
    audio = generator.sample(
        options.count,
        options.seed,
        genres,
        options.attributes,
        options.key,
        options.secs,
        options.temperature,
        options.guidance,
    )
    titles = [genre or f"new {index:02d}" for index, genre in enumerate(genres)]
    return GeneratedClips("prior", list(audio), titles, genres, [])


def _vary(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres = _known_genres(generator, sources)

    def vary(clips: np.ndarray, seed: int, genres: list[str | None]) -> np.ndarray:
        return generator.vary(clips, options.noise_scale, seed, genres)

    return GeneratedClips(
        "variation", _each(vary, sources, options, genres), _names(sources), genres, sources
    )


def _reconstruct(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    genres = _known_genres(generator, sources)

    def reconstruct(clips: np.ndarray, seed: int, genres: list[str | None]) -> np.ndarray:
        return generator.reconstruct(clips, genres)

    audio = _each(reconstruct, sources, options, genres)
    return GeneratedClips("reconstruct", audio, _names(sources), genres, sources)


def _interpolate(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    start = sources[0]
    others = (source for source in reversed(sources) if source.name != start.name)
    end = sources[1] if options.sources else next(others)
    ends = _known_genres(generator, [start, end])
    samples = min(len(start.audio), len(end.audio))
    audio = generator.interpolate(start.audio[:samples], end.audio[:samples], options.steps, ends)
    between = range(1, options.steps - 1)
    titles = [f"{100 * step // (options.steps - 1)}%" for step in between]
    genres = [ends[0], *[None for _ in between], ends[1]]
    return GeneratedClips("interpolate", list(audio), [start.name, *titles, end.name], genres, [])


def _why_no_interpolation(sources: Sequence[SourceClip], options: Options) -> str:
    if options.sources:
        count = len(options.sources)
        return "" if count == 2 else f"an interpolation needs two clips, and `from` names {count}"
    if len({source.name for source in sources}) > 1:
        return ""
    return f"an interpolation needs two clips, and {sources[0].name} is the only one: name another dataset with `data`"


def _why_no_continuation(generator: Generator, sources: Sequence[SourceClip], options: Options) -> str:
    known = max(map(_continued_samples, sources))
    if options.secs is None or round(options.secs * generator.sample_rate_hz) > known:
        return ""
    known_secs = known / generator.sample_rate_hz
    return f"`secs` {options.secs:g} is not longer than what is continued, {known_secs:.4g} s"


def _continued_samples(source: SourceClip) -> int:
    """Return how many samples of a source clip its continuation begins with."""
    samples = len(source.audio)
    return samples if source.file_sha256 is not None else int(samples * CONTINUED_FRACTION)


def _transfer(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    targets = [options.to_genre or _next_genre(generator, source.genre) for source in sources]
    titles = [f"{source.name} as {target}" for source, target in zip(sources, targets, strict=True)]
    origins = _known_genres(generator, sources)

    def transfer(clips: np.ndarray, seed: int, pairs: list[tuple[str, str | None]]) -> np.ndarray:
        to_genres, from_genres = zip(*pairs, strict=True)
        return generator.transfer(clips, to_genres, from_genres, options.guidance)

    audio = _each(transfer, sources, options, list(zip(targets, origins, strict=True)))
    return GeneratedClips("transfer", audio, titles, targets, sources)


def _extend(generator: Generator, sources: Sequence[SourceClip], options: Options) -> GeneratedClips:
    known, total_secs = [], []
    for source in sources:
        known.append(source._replace(audio=source.audio[: _continued_samples(source)]))
        total = len(source.audio) + (generator.clip_samples if source.file_sha256 is not None else 0)
        total_secs.append(options.secs or total / generator.sample_rate_hz)
    genres = _known_genres(generator, sources)

    def extend(clips: np.ndarray, seed: int, pairs: list[tuple[str | None, float]]) -> np.ndarray:
        of_clips, secs = zip(*pairs, strict=True)
        return generator.extend(
            clips,
            secs[0],
            seed,
            of_clips,
            options.attributes,
            options.key,
            options.temperature,
            options.guidance,
        )

    pairs = list(zip(genres, total_secs, strict=True))
    audio = _each(extend, known, options, pairs, together=len(set(total_secs)) == 1)
    return GeneratedClips("continue", audio, _names(sources), genres, sources)


_GENERATE = {
    "prior": _sample,
    "variation": _vary,
    "reconstruct": _reconstruct,
    "interpolate": _interpolate,
    "transfer": _transfer,
    "continue": _extend,
}


def _each(
    generate: Callable[[np.ndarray, int, list[Argument]], np.ndarray],
    sources: Sequence[SourceClip],
    options: Options,
    arguments: list[Argument],
    together: bool = True,
) -> list[np.ndarray]:
    """Call `generate` with all source clips, the seed and one argument per clip; or with each alone.

    That is where their lengths differ, or if not `together`. A clip that is generated alone has the seed that follows
    the one of the clip before.
    """
    if together and len({len(source.audio) for source in sources}) == 1:
        return list(generate(np.stack([source.audio for source in sources]), options.seed, arguments))
    return [
        generate(source.audio[np.newaxis], options.seed + index, [argument])[0]
        for index, (source, argument) in enumerate(zip(sources, arguments, strict=True))
    ]


def _names(sources: Sequence[SourceClip]) -> list[str]:
    return [source.name for source in sources]


def _known_genres(generator: Generator, sources: Sequence[SourceClip]) -> list[str | None]:
    """The genres of source clips; None where the model is not conditional or does not know the genre."""
    conditional = generator.model.capabilities.conditional
    return [source.genre if conditional and source.genre in generator.genres else None for source in sources]


def _next_genre(generator: Generator, genre: str | None) -> str:
    if genre not in generator.genres:
        return generator.genres[0]
    return generator.genres[(generator.genres.index(genre) + 1) % len(generator.genres)]
