import pytest

from trainer.config import Config
from trainer.models.base import Stage
from trainer.presets import PRESETS
from trainer.training.schedule import beta_at, generation_epochs, learning_rate_at, stage_at


def test_beta_warms_up_linearly():
    config = Config(beta=0.5, beta_warmup_epochs=4)
    assert [beta_at(config, epoch) for epoch in (0, 1, 2, 4, 9)] == [0, 0.125, 0.25, 0.5, 0.5]
    assert {beta_at(PRESETS["reference"], epoch) for epoch in (0, 19)} == {1.0}


def test_the_learning_rate_of_each_stage_warms_up_and_decays_along_half_a_cosine():
    config = Config(
        epochs=10, generation_share=0.4, learning_rate=1e-3, final_learning_rate=1e-5, warmup_steps=10
    )
    steps = 200  # per epoch
    rates = {
        epoch: learning_rate_at(config, epoch, round(steps * epoch)) for epoch in (3, 5.9999, 6, 6.02, 8, 10)
    }
    assert learning_rate_at(config, 0.0, 4) == pytest.approx(0.5e-3)
    assert rates[3] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[5.9999] == pytest.approx(1e-5, rel=1e-3)
    assert rates[6] == pytest.approx(2.5e-5)
    assert rates[6.02] == pytest.approx(1.25e-4, rel=1e-3)
    assert rates[8] == pytest.approx(0.25 * (1e-3 + 1e-5) / 2)
    assert rates[10] == pytest.approx(2.5e-6)
    assert {learning_rate_at(PRESETS["reference"], epoch, 0) for epoch in (0, 3.3, 19.9)} == {3e-4}
    constant = Config(
        epochs=10, generation_share=0.4, learning_rate=1e-4, final_learning_rate=1e-4, warmup_steps=0
    )
    assert {learning_rate_at(constant, epoch, 0) for epoch in (0, 5)} == {1e-4}
    assert {learning_rate_at(constant, epoch, 0) for epoch in (6, 9.9)} == {2.5e-5}


@pytest.mark.parametrize(("epochs", "expected"), [(1, 0), (3, 1), (4, 1), (10, 4)])
def test_the_last_epochs_are_a_stage_of_their_own(epochs, expected):
    config = Config(epochs=epochs, generation_share=0.4)
    assert generation_epochs(config) == expected
    stages = [stage_at(config, epoch + 0.5) for epoch in range(epochs)]
    assert stages == [Stage.ALL_WEIGHTS] * (epochs - expected) + [Stage.GENERATION] * expected
