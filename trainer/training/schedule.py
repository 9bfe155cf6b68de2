"""What changes over the epochs of a training: its stage, the learning rate and the weight of the KL terms."""

from __future__ import annotations

import math

from trainer.config import Config
from trainer.models.base import Stage

GENERATION_RATE = 0.25  # of the learning rate, where trained priors and decoders learn on


def generation_epochs(config: Config) -> int:
    """Return the number of the last epochs, in which only what makes new clips learns."""
    return int(config.epochs * config.generation_share)


def stage_at(config: Config, epoch: float) -> Stage:
    """Return the stage after `epoch` epochs, which may be fractional."""
    last = generation_epochs(config)
    return Stage.GENERATION if last and epoch >= config.epochs - last else Stage.ALL_WEIGHTS


def learning_rate_at(config: Config, epoch: float, step: int) -> float:
    """Compute Adam's learning rate: in each stage, linear warm-up, then half a cosine down.

    Loshchilov & Hutter 2017, "SGDR", equation 5.

    Args:
        config: Of the run.
        epoch: Finished epochs, with the finished part of the current one.
        step: Number of finished training steps.
    """
    first, last, scale = 0, config.epochs - generation_epochs(config), 1.0
    if stage_at(config, epoch) is Stage.GENERATION:
        first, last, scale = last, config.epochs, GENERATION_RATE
        step = round(step * (epoch - first) / epoch)  # Adam has no moments of a discriminator yet
    progress = min((epoch - first) / max(1, last - first), 1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    final = config.final_learning_rate
    rate = scale * (final + (config.learning_rate - final) * cosine)
    return rate * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else rate


def beta_at(config: Config, epoch: float) -> float:
    """Compute the weight of the KL terms: linear warm-up (Bowman et al. 2016, section 3.1)."""
    if not config.beta_warmup_epochs:
        return config.beta
    return config.beta * min(1.0, epoch / config.beta_warmup_epochs)
