import logging
import sys
import warnings

import librosa
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import USAGE, CommandError
from trainer.evaluation.embeddings import (
    LogMelEmbedding,
    MusicnnEmbedding,
    SavedModelEmbedding,
    make_embedding,
)

RATE_HZ = 3_000

# Replaces the package `musicnn`: TensorFlow 1 graph code that logs warnings, with a checkpoint beside it.
MUSICNN = """
import warnings
import tensorflow as tf

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.FATAL)


def define_model(x, is_training, model, num_classes):
    warnings.warn("deprecated")
    tf.compat.v1.logging.warning("deprecated")
    if model != "MSD_musicnn":
        raise ValueError("Model not implemented!")
    gain = tf.compat.v1.get_variable("gain", [], initializer=tf.compat.v1.constant_initializer(1.0))
    return tf.reduce_sum(x, axis=1), gain + tf.reduce_mean(x, axis=1)
"""


def tones(*hz, secs=6.5, level=0.5):
    time_secs = np.arange(round(secs * RATE_HZ)) / RATE_HZ
    return np.stack([level * np.sin(2 * np.pi * frequency * time_secs) for frequency in hz]).astype(
        np.float32
    )


class FrameMeans(tf.Module):
    """Returns the mean and level of each half second, after an output that is no embedding."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, waveform):
        frames = tf.signal.frame(waveform, 8_000, 8_000)
        level = tf.sqrt(tf.reduce_mean(frames**2, axis=1))
        return tf.shape(frames), {"embedding": tf.stack([tf.reduce_mean(frames, axis=1), level], axis=1)}


class ClipLevel(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def embed(self, waveform):
        return {"level": tf.sqrt(tf.reduce_mean(waveform**2))[tf.newaxis]}


class BatchOnly(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 10], tf.float32)])
    def __call__(self, rows):
        return rows


class NoEmbedding(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, waveform):
        return tf.shape(waveform)


def save(module, path, **kwargs):
    tf.saved_model.save(module, str(path), **kwargs)
    return path


def usage_error(call):
    with pytest.raises(CommandError) as caught:
        call()
    assert caught.value.exit_code == USAGE
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def musicnn(tmp_path, monkeypatch):
    package = tmp_path / "musicnn"
    (package / "MSD_musicnn").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models.py").write_text(MUSICNN)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        gain = tf.compat.v1.get_variable("gain", [])
        session.run(gain.assign(2.0))
        tf.compat.v1.train.Saver().save(session, f"{package}/MSD_musicnn/")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("musicnn", "musicnn.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield package
    for name in ("musicnn", "musicnn.models"):
        sys.modules.pop(name, None)


def test_an_embedding_has_one_patch_per_three_seconds():
    embedding = LogMelEmbedding()
    clips = tones(100, 400)
    embeddings = embedding(clips, RATE_HZ)
    assert embeddings.shape == (2, 2, 192)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embedding(clips[:, 9_000:18_000], RATE_HZ)[:, 0], embeddings[:, 1], atol=1e-5)
    assert embedding(clips[:, :2_000], RATE_HZ).shape == (2, 1, 192)


def test_log_mel_values_are_levels_deviations_and_changes():
    loud, quiet = (LogMelEmbedding()(tones(400, level=level), RATE_HZ)[0, 0] for level in (0.5, 0.05))
    loudest = loud[:64].argmax()
    assert loud[loudest] - quiet[loudest] == pytest.approx(2, abs=0.01)  # 20 dB in units of 10
    np.testing.assert_allclose(LogMelEmbedding()(np.zeros((1, 9_000), np.float32), RATE_HZ)[0, 0, 64:], 0)
    steady, broken = tones(400, 400)
    broken[np.arange(len(broken)) // 1_500 % 2 == 0] = 0
    values = LogMelEmbedding()(np.stack([steady, broken]), RATE_HZ)[:, 0]
    assert np.all(values[1, [64 + loudest, 128 + loudest]] > 2 * values[0, [64 + loudest, 128 + loudest]])


def test_similar_clips_have_similar_embeddings():
    first, similar, different = LogMelEmbedding()(tones(200, 202, 800), RATE_HZ).mean(axis=1)
    assert np.linalg.norm(first - similar) < 0.3 * np.linalg.norm(first - different)


def test_clips_are_resampled_to_the_rate_of_the_saved_model(tmp_path):
    embedding = make_embedding(str(save(FrameMeans(), tmp_path / "vggish")))
    assert embedding.name == "savedmodel:vggish"
    clips = np.concatenate([tones(100, 300), 0.3 + 0 * tones(100)])
    embeddings = embedding(clips, RATE_HZ)
    assert embeddings.shape == (3, 13, 2)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings[:2, 1:-1, 1], 0.5 / np.sqrt(2), rtol=1e-3)
    np.testing.assert_allclose(embeddings[2, 1:-1], 0.3, rtol=1e-3)
    slow = SavedModelEmbedding(tmp_path / "vggish", input_rate_hz=8_000)
    assert slow(clips, RATE_HZ).shape == (3, 6, 2)


def test_a_saved_model_may_have_only_a_signature_and_one_embedding_per_clip(tmp_path):
    module = ClipLevel()
    path = save(module, tmp_path / "level", signatures={"serving_default": module.embed})
    embeddings = SavedModelEmbedding(path)(tones(100, 300), RATE_HZ)
    assert embeddings.shape == (2, 1, 1)
    np.testing.assert_allclose(embeddings, 0.5 / np.sqrt(2), rtol=1e-3)


def test_an_unusable_saved_model_is_a_usage_error(tmp_path):
    assert "not a callable SavedModel" in usage_error(lambda: make_embedding(str(tmp_path)))
    not_callable = save(tf.Module(), tmp_path / "nothing")
    assert "not a callable SavedModel" in usage_error(lambda: SavedModelEmbedding(not_callable))
    batch_only = SavedModelEmbedding(save(BatchOnly(), tmp_path / "batch"))
    assert "does not take a waveform" in usage_error(lambda: batch_only(tones(100), RATE_HZ))
    no_embedding = SavedModelEmbedding(save(NoEmbedding(), tmp_path / "shape"))
    assert "neither [dim] nor [frames, dim]" in usage_error(lambda: no_embedding(tones(100), RATE_HZ))


def test_the_error_for_an_unknown_embedding_lists_the_known_ones():
    assert make_embedding("log-mel").name == "log-mel"
    message = usage_error(lambda: make_embedding("vgish"))
    assert "vgish" in message
    assert "log-mel, musicnn or the folder" in message


def test_musicnn_embeds_each_patch_with_restored_weights(musicnn):
    embedding = make_embedding("musicnn")
    assert embedding.name == "musicnn"
    clips = tones(500, 500, secs=6.1)
    clips[1] = 0
    embeddings = embedding(clips, RATE_HZ)
    assert embeddings.shape == (2, 2, 96)
    assert embeddings.dtype == np.float32
    # The gain in the checkpoint; silence adds log10(0 + 1) = 0.
    np.testing.assert_array_equal(embeddings[1], 2)
    band_hz = librosa.mel_frequencies(98, fmax=8_000)[1:-1]
    assert band_hz[embeddings[0, 0].argmax()] == pytest.approx(500, rel=0.1)
    assert embedding(clips[:, :3_000], RATE_HZ).shape == (2, 1, 96)


def test_loading_musicnn_logs_nothing_and_restores_the_log_level(musicnn, caplog, capfd):
    level = tf.get_logger().level
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        MusicnnEmbedding()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert tf.get_logger().level == level
    assert tf.executing_eagerly()


def test_a_missing_musicnn_network_is_a_usage_error(musicnn):
    assert "MTT_vgg" in usage_error(lambda: MusicnnEmbedding("MTT_vgg"))
    (musicnn / "MSD_musicnn" / ".index").unlink()
    assert "MSD_musicnn" in usage_error(MusicnnEmbedding)


def test_without_musicnn_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "musicnn", None)
    assert "pip install --no-deps musicnn==0.1.0" in usage_error(lambda: make_embedding("musicnn"))
