import numpy as np
import pytest

from trainer.generation.sources import SourceClip
from trainer.studio.latent_map import LatentMap

CLIPS = [SourceClip(np.zeros(4, np.float32), f"clip {index}", "ab"[index % 2]) for index in range(9)]


@pytest.mark.parametrize("dim", [1, 2, 6])
def test_a_click_on_a_point_finds_its_clip_and_no_offset(dim):
    latents = np.random.default_rng(0).standard_normal((9, dim)).astype(np.float32)
    latent_map = LatentMap(CLIPS, latents)
    for index in range(9):
        nearest = latent_map.nearest(*latent_map.pixel(index))
        assert nearest.clip.name == f"clip {index}"
        assert np.abs(nearest.offset).max() < 0.02


def test_a_click_between_points_moves_the_latent_in_the_plane_of_the_map():
    latents = np.array([[0, 0, 5], [10, 0, 5], [0, 4, 5]], np.float32)
    latent_map = LatentMap(CLIPS[:3], latents)
    (left, top), (right, bottom) = latent_map.pixel(0), latent_map.pixel(1)
    nearest = latent_map.nearest(round(0.6 * left + 0.4 * right), round(0.6 * top + 0.4 * bottom))
    assert nearest.clip.name == "clip 0"
    np.testing.assert_allclose(nearest.offset, [4, 0, 0], atol=0.1)


def test_the_picture_has_a_point_where_the_map_says():
    latents = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
    latent_map = LatentMap(CLIPS, latents)
    for index in range(9):
        assert latent_map.picture.getpixel(latent_map.pixel(index)) != (255, 255, 255)
