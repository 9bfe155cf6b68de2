import librosa
import numpy as np
import pytest
import tensorflow as tf

from trainer.dsp.distances import snr_db
from trainer.dsp.mel import MELS, MIN_DB, log_mel, mel_scale
from trainer.models.base import ElboTerms
from trainer.training.totals import replica_loss


def sine(hz, rate_hz, secs=2.0, amplitude=1.0):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(secs * rate_hz)) / rate_hz)).astype(np.float32)


def test_snr_equals_its_closed_form():
    audio = tf.constant(np.stack([sine(100, 3_000), sine(200, 3_000), np.zeros(6_000, np.float32)]))
    np.testing.assert_allclose(snr_db(audio, 0 * audio), [0, 0, 0], atol=1e-4)  # silence
    np.testing.assert_allclose(snr_db(audio, 0.9 * audio)[:2], [20, 20], atol=1e-3)
    np.testing.assert_allclose(snr_db(audio, -audio)[:2], [-20 * np.log10(2)] * 2, atol=1e-3)


@pytest.mark.parametrize("rate_hz", [3_000, 22_050])
@pytest.mark.parametrize("share_of_nyquist", [0.1, 0.35, 0.8])
def test_a_tone_is_loudest_in_the_band_of_its_frequency(rate_hz, share_of_nyquist):
    hz = share_of_nyquist * rate_hz / 2
    spectrogram = log_mel(sine(hz, rate_hz)[np.newaxis], rate_hz).numpy()[0]
    scale = mel_scale(rate_hz)
    assert spectrogram.shape[1] == len(scale.band_hz) == MELS
    assert spectrogram.shape[0] == pytest.approx(2 * rate_hz / scale.hop_samples, abs=2)
    loudest = scale.band_hz[spectrogram[10:-10].mean(axis=0).argmax()]
    mels = librosa.hz_to_mel([hz, loudest], htk=True)
    assert abs(mels[0] - mels[1]) < 1.5 * librosa.hz_to_mel(rate_hz / 2, htk=True) / MELS


def test_log_mel_is_in_db():
    loud, quiet = (log_mel(sine(440, 3_000, amplitude=a)[np.newaxis], 3_000) for a in (1.0, 0.1))
    assert float(tf.reduce_max(loud) - tf.reduce_max(quiet)) == pytest.approx(20.0, abs=0.1)
    assert float(tf.reduce_min(log_mel(np.zeros([1, 6_000], np.float32), 3_000))) == MIN_DB


def test_the_loss_does_not_depend_on_how_the_batch_is_divided():
    objective = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0])

    def loss_of(examples):
        return float(replica_loss(ElboTerms(examples, examples, examples), tf.fill(examples.shape, 0.2)))

    assert loss_of(objective) == pytest.approx(3.0)
    assert loss_of(objective[:4]) + loss_of(objective[4:]) == pytest.approx(3.0)
    padded = ElboTerms(*[tf.constant([1.0, 5.0, 99.0])] * 3)
    assert float(replica_loss(padded, tf.constant([0.5, 0.5, 0.0]))) == pytest.approx(3.0)
