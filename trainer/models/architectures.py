"""The models by the name of their architecture. Imports no TensorFlow until a model is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from preprocessing.errors import UsageError
from trainer.config import Config
from trainer.presets import HIERARCHICAL, REFERENCE
from trainer.run_config import DatasetMetadata

if TYPE_CHECKING:
    from trainer.models.base import WaveformVAE

ModelFactory: TypeAlias = "Callable[[Config, DatasetMetadata], WaveformVAE]"

_MODELS: dict[str, ModelFactory | str] = {}


def register_model(architecture: str, model: ModelFactory | str) -> None:
    """Add a model, which presets select by the name of its architecture.

    Args:
        architecture: A name; see `trainer.register_preset`.
        model: A sub-class of `trainer.models.base.WaveformVAE`, or a function, that takes the configuration and the
            metadata of the dataset; or "package.module:Class", which is imported when it is needed.

    Raises:
        UsageError: It is the name of a model of this program.
    """
    if architecture in _OWN:
        raise UsageError(f"{architecture} is a model of this program: choose another name")
    _MODELS[architecture] = model


def find_model(architecture: str) -> ModelFactory:
    """Return what builds the models of an architecture.

    Raises:
        UsageError: There is no model of this name.
    """
    if architecture not in _MODELS:
        raise UsageError(
            f"there is no model of the architecture {architecture}: import the module that registers it first"
        )
    model = _MODELS[architecture]
    if isinstance(model, str):
        module, _, name = model.partition(":")
        try:
            factory: ModelFactory = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(
                f"the model {model} of the architecture {architecture} cannot be imported: {error}"
            ) from error
        return factory
    return model


_OWN: frozenset[str] = frozenset()
register_model(HIERARCHICAL, "trainer.models.hierarchical.model:HierarchicalVAE")
register_model(REFERENCE, "trainer.models.reference:ReferenceCVAE")
_OWN = frozenset(_MODELS)
