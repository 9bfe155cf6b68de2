import dataclasses

import numpy as np
from support.tiny_models import METADATA

from trainer.conditioning import TEMPO, empirical_conditions

ROWS = [
    {"genre": "jazz", **dict.fromkeys(METADATA.attributes, None), TEMPO: 90.0},
    {"genre": "rock", **dict.fromkeys(METADATA.attributes, None), TEMPO: None},
]


def test_all_conditions_of_a_training_clip_are_drawn_together():
    metadata = dataclasses.replace(METADATA, empirical_conditions=ROWS)
    genres, attributes = empirical_conditions(metadata, 8, 0.25)
    tempo = attributes[:, list(metadata.attributes).index(TEMPO)]
    assert {metadata.genres[genre] for genre in genres} == {"jazz", "rock"}
    np.testing.assert_array_equal(np.isnan(tempo), genres == metadata.genres.index("rock"))
    statistics = metadata.attributes[TEMPO]
    np.testing.assert_allclose(tempo[~np.isnan(tempo)] * statistics.std + statistics.mean, 90, rtol=1e-5)
