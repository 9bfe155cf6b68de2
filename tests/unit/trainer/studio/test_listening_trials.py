import numpy as np
import pytest

from trainer.reporting.listening import ANCHOR, HIDDEN_REFERENCE, PAIR, RATING
from trainer.studio import listening_trials
from trainer.studio.listening_trials import anchor, make_trials


class Session:
    """A session whose model halves clips and generates noise."""

    def __init__(self):
        import threading

        from trainer.generation.sources import SourceClip

        rng = np.random.default_rng(0)
        self.test_clips = [
            SourceClip(rng.uniform(-0.5, 0.5, 3_000).astype(np.float32), f"clip {index}", "jazz")
            for index in range(5)
        ]
        self.model_lock = threading.Lock()
        self.generator, self.baseline = self, None
        self.model, self.capabilities, self.conditional, self.genres = self, self, True, ("jazz",)

    def reconstruct(self, clips, genre):
        return np.cumsum(clips, axis=1) / 10

    def sample(self, count, seed):
        return np.random.default_rng(seed).uniform(-0.9, 0.9, (count, 3_000)).astype(np.float32)


def test_a_test_rates_reconstructions_and_compares_new_music():
    trials = make_trials(Session(), seed=3)
    kinds = [trial.kind for trial in trials]
    assert (kinds.count(RATING), kinds.count(PAIR)) == (listening_trials.RATINGS, listening_trials.PAIRS)
    for trial in trials:
        systems = {stimulus.system for stimulus in trial.stimuli}
        if trial.kind == RATING:
            assert systems == {HIDDEN_REFERENCE, ANCHOR, "model"}
            (hidden,) = (part.audio for part in trial.stimuli if part.system == HIDDEN_REFERENCE)
            np.testing.assert_array_equal(hidden, trial.reference)
        else:
            assert "model" in systems and len(systems) == 2


def test_all_stimuli_have_the_same_level():
    levels = [
        np.sqrt(np.mean(np.square(stimulus.audio, dtype=np.float64)))
        for trial in make_trials(Session(), seed=3)
        for stimulus in trial.stimuli
    ]
    assert levels == pytest.approx([0.1] * len(levels), rel=1e-3)


def test_order_and_clips_differ_between_listeners_and_are_the_same_for_one_seed():
    def order(seed):
        return [
            (trial.clip, [part.system for part in trial.stimuli]) for trial in make_trials(Session(), seed)
        ]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_anchor_lacks_the_high_band():
    clip = np.random.default_rng(0).standard_normal(8_192).astype(np.float32)
    before, after = (np.abs(np.fft.rfft(part)) for part in (clip, anchor(clip)))
    assert after[: int(0.15 * 4_096)].mean() > 0.95 * before[: int(0.15 * 4_096)].mean()
    assert after[int(0.25 * 4_096) :].mean() < 0.01 * before.mean()
