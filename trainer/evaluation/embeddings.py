"""Embeddings of clips, on which Fréchet distances, nearest clips and the genre classifier are computed."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import librosa
import numpy as np
import tensorflow as tf

from preprocessing.errors import UsageError
from trainer.dsp.mel import log_mel

PATCH_SECS = 3.0
LOG_MEL, MUSICNN = "log-mel", "musicnn"


class Embedding(Protocol):
    """An embedding of clips; `name` is how reports refer to it."""

    name: str

    def __call__(self, audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """Embed each patch of 3 seconds; a shorter remainder is dropped.

        Args:
            audio: `[clips, samples]` float32 in [-1, 1].
            sample_rate_hz: Of `audio`.

        Returns:
            `[clips, patches, dim]` float32.
        """


def make_embedding(name: str) -> Embedding:
    """Make the embedding named "log-mel" or "musicnn", or load that of a SavedModel's folder.

    Raises:
        CommandError: The name is unknown, or the network cannot be loaded (exit code 2).
    """
    if name == LOG_MEL:
        return LogMelEmbedding()
    if name == MUSICNN:
        return MusicnnEmbedding()
    if Path(name).is_dir():
        return SavedModelEmbedding(name)
    raise UsageError(f"embedding {name} is unknown: give {LOG_MEL}, {MUSICNN} or the folder of a SavedModel")


class LogMelEmbedding:
    """Statistics of the log-mel spectrogram; needs no trained network.

    For each of 64 bands: mean level, standard deviation, and mean absolute change between frames, which stand for
    timbre, dynamics and activity. The 192 values are scaled to a standard deviation of about 1.
    """

    name = LOG_MEL
    UNITS_DB = (10.0, 2.5, 1.25)  # about the standard deviation of each statistic over patches of music

    def __call__(self, audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """Embed `[clips, samples]` as `[clips, patches, 192]` float32; a clip shorter than a patch is one patch."""
        # One clip at a time: the spectra of all clips would not fit into memory.
        return np.stack([self._embed(clip, sample_rate_hz) for clip in _patches(audio, sample_rate_hz)])

    def _embed(self, patches: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        levels_db = log_mel(patches, sample_rate_hz).numpy()
        changes_db = np.abs(np.diff(levels_db, axis=1)).sum(axis=1) / max(levels_db.shape[1] - 1, 1)
        statistics = (levels_db.mean(axis=1), levels_db.std(axis=1), changes_db)
        return np.concatenate(
            [values / unit for values, unit in zip(statistics, self.UNITS_DB, strict=True)], axis=-1
        )


def _patches(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """`[clips, samples]` -> `[clips, patches, patch_samples]`."""
    clips, samples = audio.shape
    patch_samples = min(samples, round(PATCH_SECS * sample_rate_hz))
    return audio[:, : samples // patch_samples * patch_samples].reshape(clips, -1, patch_samples)


class SavedModelEmbedding:
    """A network in TensorFlow's SavedModel format that takes one mono waveform, as most audio networks do.

    The embedding is the first float output of shape `[dim]` or `[frames, dim]`; the outputs of a dictionary are
    searched in the order of their names. The frames serve as patches, whatever their length.
    """

    def __init__(self, path: str | Path, input_rate_hz: int = 16_000) -> None:
        """Load the folder `path`; the network takes audio at `input_rate_hz`.

        Raises:
            CommandError: It is not a callable SavedModel (exit code 2).
        """
        self.name = f"savedmodel:{Path(path).name}"
        self._input_rate_hz = input_rate_hz
        try:
            self._model = tf.saved_model.load(str(path))
            self._call = self._model if callable(self._model) else self._signature()
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise UsageError(f"embedding {path} is not a callable SavedModel") from error

    def _signature(self) -> Callable[[tf.Tensor], object]:
        signature = self._model.signatures["serving_default"]
        ((argument, _),) = signature.structured_input_signature[1].items()
        return lambda waveform: signature(**{argument: waveform})

    def __call__(self, audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """Embed `[clips, samples]` as `[clips, patches, dim]` float32.

        Raises:
            CommandError: The network does not take a waveform or returns no embedding (exit code 2).
        """
        waveforms = _resampled(audio, sample_rate_hz, self._input_rate_hz)
        return np.stack([self._embed(waveform) for waveform in waveforms])

    def _embed(self, waveform: np.ndarray) -> np.ndarray:
        try:
            outputs = tf.nest.flatten(self._call(tf.constant(waveform)))
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise UsageError(
                f"embedding {self.name} does not take a waveform of [samples] float32"
            ) from error
        for output in outputs:
            if tf.is_tensor(output) and output.dtype.is_floating and output.shape.rank in (1, 2):
                return np.atleast_2d(tf.cast(output, tf.float32).numpy())
        raise UsageError(f"embedding {self.name} returns neither [dim] nor [frames, dim] floats")


class MusicnnEmbedding:
    """The penultimate layer of a network that tags music: 200 values of the optional package `musicnn`.

    Pons & Serra 2019, "musicnn: pre-trained convolutional neural networks for music audio tagging".
    """

    name = MUSICNN
    RATE_HZ, FFT_SAMPLES, HOP_SAMPLES, BANDS = 16_000, 512, 256, 96
    PATCH_FRAMES = 187
    TAGS = 50

    def __init__(self, model: str = "MSD_musicnn") -> None:
        """Load one of the package's networks of this architecture: "MSD_musicnn" or "MTT_musicnn".

        Raises:
            CommandError: The package, or the network in it, is missing (2).
        """
        with _tensorflow_1_in_silence():
            try:
                # Never musicnn.extractor: it disables eager execution for the whole process.
                from musicnn import models
            except ImportError as error:
                raise UsageError(
                    "embedding musicnn is not installed: run `make musicnn`, or pip install --no-deps musicnn==0.1.0"
                ) from error
            try:
                self._load(models, Path(models.__file__).parent / model)
            except (ValueError, tf.errors.OpError) as error:
                raise UsageError(f"embedding musicnn has no network {model}") from error

    def _load(self, models: ModuleType, checkpoint: Path) -> None:
        with tf.Graph().as_default() as graph:
            with tf.name_scope("model"):
                self._input = tf.compat.v1.placeholder(tf.float32, [None, self.PATCH_FRAMES, self.BANDS])
                self._output = models.define_model(self._input, False, checkpoint.name, self.TAGS)[-1]
            self._session = tf.compat.v1.Session(graph=graph)
            tf.compat.v1.train.Saver().restore(self._session, f"{checkpoint}/")

    def __call__(self, audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """Embed `[clips, samples]` as `[clips, patches, 200]` float32; a clip shorter than a patch is one patch."""
        waveforms = _resampled(audio, sample_rate_hz, self.RATE_HZ)
        return np.stack([self._session.run(self._output, {self._input: self._mels(w)}) for w in waveforms])

    def _mels(self, waveform: np.ndarray) -> np.ndarray:
        """`[samples]` -> `[patches, PATCH_FRAMES, BANDS]`, as the networks were trained on."""
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=self.RATE_HZ,
            n_fft=self.FFT_SAMPLES,
            hop_length=self.HOP_SAMPLES,
            n_mels=self.BANDS,
        )
        levels = np.log10(10_000 * mel.T + 1)
        levels = np.pad(levels, ((0, max(0, self.PATCH_FRAMES - len(levels))), (0, 0)))
        patches = len(levels) // self.PATCH_FRAMES
        return levels[: patches * self.PATCH_FRAMES].reshape(patches, self.PATCH_FRAMES, self.BANDS)


def _resampled(audio: np.ndarray, sample_rate_hz: int, rate_hz: int) -> Iterator[np.ndarray]:
    """Yield one resampled `[samples]` float32 waveform per clip; all at once would take too much memory."""
    for clip in np.asarray(audio, np.float32):
        yield librosa.resample(clip, orig_sr=sample_rate_hz, target_sr=rate_hz, res_type="soxr_hq")


@contextlib.contextmanager
def _tensorflow_1_in_silence() -> Iterator[None]:
    """Suppress the warnings of deprecated code and restore TensorFlow's log level, which that code changes."""
    logger = tf.get_logger()
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
