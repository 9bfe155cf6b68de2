import numpy as np
import pytest

from trainer.evaluation.baselines import WindowedPCA, phase_randomized, shaped_noise


def clips_in_subspace(rng, basis, windows=30, clips=4):
    weights = rng.normal(size=(clips, windows, len(basis)))
    return (weights @ basis).reshape(clips, -1)


def coloured_noise(rng, clips=6, samples=4_096):
    """Noise under a slope of 20 dB with a gap in the middle."""
    spectrum = np.fft.rfft(0.1 * rng.normal(size=(clips, samples)))
    gains = np.geomspace(1, 0.1, spectrum.shape[1])
    gains[spectrum.shape[1] // 3 : spectrum.shape[1] // 2] = 0.01
    return np.fft.irfft(gains * spectrum, samples).astype(np.float32)


def test_signals_in_the_subspace_are_reconstructed_exactly():
    rng = np.random.default_rng(0)
    clips = clips_in_subspace(rng, rng.normal(size=(4, 32)))
    pca = WindowedPCA.fit(iter(clips), samples_per_value=8, window_samples=32)
    assert pca.components.shape == (4, 32)
    np.testing.assert_allclose(pca.reconstruct(clips), clips, atol=1e-4)


def test_the_reconstruction_error_is_the_variance_of_the_dropped_components():
    rng = np.random.default_rng(1)
    clips = 3 + rng.normal(size=(5, 640)) * np.tile(np.geomspace(2, 0.1, 32), 20)
    pca = WindowedPCA.fit(clips, samples_per_value=4, window_samples=32)
    assert np.all(np.diff(pca.variances) <= 0)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(8), atol=1e-9)
    errors = ((pca.reconstruct(clips) - clips) ** 2).reshape(-1, 32).sum(axis=1)
    assert errors.mean() == pytest.approx(pca.variances[8:].sum(), rel=1e-4)


def test_a_clip_that_ends_within_a_window_keeps_its_length():
    clips = np.random.default_rng(2).normal(size=(3, 1_025)).astype(np.float32)
    pca = WindowedPCA.fit(clips, samples_per_value=1, window_samples=64)
    reconstruction = pca.reconstruct(clips)
    assert reconstruction.dtype == np.float32
    np.testing.assert_allclose(reconstruction, clips, atol=1e-5)


def test_a_fit_without_clips_or_with_an_invalid_compression_is_an_error():
    with pytest.raises(ValueError, match="no clips"):
        WindowedPCA.fit([], 8)
    for samples_per_value in (0, 65):
        with pytest.raises(ValueError, match="samples_per_value"):
            WindowedPCA.fit(np.zeros((1, 64)), samples_per_value, window_samples=64)


@pytest.mark.parametrize("samples", [4_096, 3_001, 6_000])
def test_shaped_noise_has_the_spectrum_of_the_clips(samples):
    clips = coloured_noise(np.random.default_rng(3))
    noise = shaped_noise(iter(clips), count=40, samples=samples, seed=1)
    assert noise.shape == (40, samples)
    assert noise.dtype == np.float32

    def levels_db(audio):
        density = (np.abs(np.fft.rfft(audio)) ** 2).mean(axis=0) / audio.shape[1]
        return 10 * np.log10([part.mean() for part in np.array_split(density, 24)])

    # The edges of the gap are left out, because the spectrum of a truncated clip leaks there.
    expected, actual = levels_db(clips), levels_db(noise)
    np.testing.assert_allclose(actual[:7], expected[:7], atol=1.0)
    np.testing.assert_allclose(actual[13:], expected[13:], atol=1.0)
    assert noise.std() == pytest.approx(clips.std(), rel=0.05)


def test_shaped_noise_is_gaussian_and_differs_between_clips_and_seeds():
    clips = coloured_noise(np.random.default_rng(4))
    noise = shaped_noise(clips, 3, 4_096, seed=5)
    standard = noise / noise.std()
    assert (standard**4).mean() == pytest.approx(3, abs=0.3)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.2
    np.testing.assert_array_equal(noise, shaped_noise(clips, 3, 4_096, seed=5))
    assert not np.allclose(noise, shaped_noise(clips, 3, 4_096, seed=6))
    with pytest.raises(ValueError, match="no clips"):
        shaped_noise([], 3, 4_096, seed=5)


@pytest.mark.parametrize("samples", [1_000, 1_001])
def test_random_phases_keep_the_magnitudes_but_not_the_waveform(samples):
    clips = np.random.default_rng(6).normal(size=(3, samples)).astype(np.float32) + 0.5
    surrogates = phase_randomized(clips, seed=1)
    assert surrogates.shape == clips.shape
    assert surrogates.dtype == np.float32
    np.testing.assert_allclose(np.abs(np.fft.rfft(surrogates)), np.abs(np.fft.rfft(clips)), atol=1e-3)
    np.testing.assert_allclose(surrogates.mean(axis=1), clips.mean(axis=1), atol=1e-5)
    for clip, surrogate in zip(clips, surrogates, strict=True):
        assert abs(np.corrcoef(clip, surrogate)[0, 1]) < 0.15
    np.testing.assert_array_equal(surrogates, phase_randomized(clips, seed=1))
    assert not np.allclose(surrogates, phase_randomized(clips, seed=2))
