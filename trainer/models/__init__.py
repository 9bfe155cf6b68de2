"""The models, behind the interface `base.WaveformVAE`: no other package depends on which one a preset selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.config import Config
from trainer.models.architectures import find_model
from trainer.presets import architecture
from trainer.run_config import DatasetMetadata

if TYPE_CHECKING:
    from trainer.models.base import WaveformVAE


def make_model(config: Config, metadata: DatasetMetadata) -> WaveformVAE:
    """Build the model that `config.preset` selects, with all its variables.

    Initial weights come from TensorFlow's global random seed, which the caller sets.

    Raises:
        UsageError: The preset or its model is not registered.
    """
    model = find_model(architecture(config))(config, metadata)
    model.make_weights(len(metadata.attributes))
    return model
