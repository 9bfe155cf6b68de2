"""The models by preset. Nothing outside this folder knows which one it has."""

from trainer.config import Config, DatasetFacts
from trainer.models.base import ANY_GENRE, Condition, Guidance, Terms, WaveformVAE

__all__ = ["ANY_GENRE", "Condition", "Guidance", "Terms", "WaveformVAE", "make_model"]


def make_model(config: Config, facts: DatasetFacts) -> WaveformVAE:
    """Builds the preset's model, its weights made from `config.seed`."""
    from trainer.models.hierarchical import WaveCVAE
    from trainer.models.reference import SeedCVAE

    model = {"seed": SeedCVAE}.get(config.preset, WaveCVAE)(config, facts)
    model.make_weights(len(facts.attributes))
    return model
