"""The models by preset. Nothing outside this folder knows which one it has."""

from trainer.config import Config
from trainer.models.base import ElboTerms, WaveformVAE
from trainer.run_config import DatasetMetadata

__all__ = ["ElboTerms", "WaveformVAE", "make_model"]


def make_model(config: Config, metadata: DatasetMetadata) -> WaveformVAE:
    """Builds the preset's model, its weights made from `config.seed`."""
    from trainer.models.hierarchical import HierarchicalVAE
    from trainer.models.reference import ReferenceCVAE

    model = {"reference": ReferenceCVAE}.get(config.preset, HierarchicalVAE)(config, metadata)
    model.make_weights(len(metadata.attributes))
    return model
