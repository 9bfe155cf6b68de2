"""The models by preset. Nothing outside this folder knows which one it has."""

from trainer.config import Config, DatasetMetadata
from trainer.models.base import DROPPED_GENRE, Condition, ElboTerms, Guidance, WaveformVAE

__all__ = ["DROPPED_GENRE", "Condition", "ElboTerms", "Guidance", "WaveformVAE", "make_model"]


def make_model(config: Config, metadata: DatasetMetadata) -> WaveformVAE:
    """Builds the preset's model, its weights made from `config.seed`."""
    from trainer.models.hierarchical import HierarchicalVAE
    from trainer.models.reference import ReferenceCVAE

    model = {"reference": ReferenceCVAE}.get(config.preset, HierarchicalVAE)(config, metadata)
    model.make_weights(len(metadata.attributes))
    return model
