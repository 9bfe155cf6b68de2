"""The options of `retrain` and their defaults. Standard library only, so that the CLI can read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainer.config import Config
from trainer.evaluation.options import GENERATED_CLIPS
from trainer.registry.promotion import Criteria
from trainer.training.workers.cluster import Cluster

FROM_CHAMPION, FROM_SCRATCH = INITIALIZATIONS = ("champion", "scratch")


@dataclass(frozen=True)
class Options:
    """What to retrain on, how, and when to promote the result."""

    datasets: str  # output directory of `preprocessing --versioned`
    models: str  # directory of the champion and the candidates
    config: Config  # of the candidate
    cache: Path  # local directory for files fetched from gs://, and for decoded clips
    criteria: Criteria = field(default_factory=Criteria)
    init_from: str = FROM_CHAMPION  # initial weights of the candidate, one of `INITIALIZATIONS`
    count: int = GENERATED_CLIPS  # generated clips per model in the comparison
    max_candidates: int = 5  # newest candidates to keep; those that a rollback may need are kept, too
    require_gpus: int = 0  # fewer are an error
    max_dataset_age_days: float | None = None  # since a preprocessing job last succeeded; None: any
    notify: str = ""  # http(s) URL to which decisions are posted
    replicas: int | None = None  # devices to train on; None: all GPUs, or else one CPU
    track: str | None = None  # where to track the candidate, as mlflow:URI
    cluster: Cluster | None = None  # the workers that train the candidate; None: this process alone

    @property
    def is_chief(self) -> bool:
        """Whether this process evaluates the candidate and decides."""
        return self.cluster is None or self.cluster.worker == 0
