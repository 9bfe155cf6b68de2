"""Which model a preset selects. Imports no TensorFlow, so that the registry can compare runs cheaply."""

from __future__ import annotations

from trainer.config import Config

REFERENCE, HIERARCHICAL = "reference", "hierarchical"


def architecture(config: Config) -> str:
    """Name the model that `config.preset` selects: `REFERENCE` or `HIERARCHICAL`.

    Weights of one architecture never fit the other.
    """
    return REFERENCE if config.preset == "reference" else HIERARCHICAL
