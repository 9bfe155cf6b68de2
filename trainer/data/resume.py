"""Which files a training that resumes within an epoch need not read again."""

from __future__ import annotations

import bisect
import itertools

import numpy as np

from preprocessing.dataset.manifest import Manifest
from trainer.config import Config
from trainer.data.dataset import files_of_input_shard
from trainer.data.input_pipeline import example_clips

CHUNK = 1 << 16


def unneeded_files(manifest: Manifest, config: Config, epoch: int, number: int, step: int) -> frozenset[int]:
    """Return the indices of the files of which no clip is left in an epoch.

    The shuffling is repeated with the numbers of the clips alone. Clips that were drawn before do not influence those
    that are drawn later, so that they may be replaced by silence.

    Args:
        manifest: Of the dataset.
        config: Of the run.
        epoch: Its number, from 1.
        number: Of the input shard.
        step: Number of finished steps of the epoch.
    """
    files = files_of_input_shard(manifest, "train", number, config.input_shards)
    ends = list(itertools.accumulate(shard.records for shard in files))
    size = config.batch_size // config.input_shards
    left = example_clips(manifest, config, epoch, number).skip(step * size).batch(CHUNK)
    needed: set[int] = set()
    for clips in left:
        needed |= {bisect.bisect_right(ends, clip) for clip in np.unique(clips).tolist()}
    return frozenset(range(len(files))) - needed
