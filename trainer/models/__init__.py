"""The models, behind the interface `base.WaveformVAE`: no other package depends on which one a preset selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.config import Config
from trainer.models.architectures import HIERARCHICAL, REFERENCE, architecture
from trainer.run_config import DatasetMetadata

if TYPE_CHECKING:
    from trainer.models.base import WaveformVAE


def make_model(config: Config, metadata: DatasetMetadata) -> WaveformVAE:
    """Build the model that `config.preset` selects, with all its variables.

    Initial weights come from TensorFlow's global random seed, which the caller sets.
    """
    # Imported here, so that importing this package does not load TensorFlow.
    from trainer.models.hierarchical import HierarchicalVAE
    from trainer.models.reference import ReferenceCVAE

    model_class = {REFERENCE: ReferenceCVAE, HIERARCHICAL: HierarchicalVAE}[architecture(config)]
    model = model_class(config, metadata)
    model.make_weights(len(metadata.attributes))
    return model
