"""The models by preset. Nothing outside this folder knows which one it has."""

from trainer.config import Config
from trainer.models.base import Posterior, Terms, WaveformVAE

__all__ = ["Posterior", "Terms", "WaveformVAE", "make_model"]


def make_model(config: Config, clip_samples: int, genres: int) -> WaveformVAE:
    """Builds the preset's model, its weights made from `config.seed`."""
    from trainer.models.seed import SeedCVAE
    from trainer.models.wave import WaveCVAE

    model = {"seed": SeedCVAE, "wave": WaveCVAE}[config.preset](config, clip_samples, genres)
    model.make_weights()
    return model
