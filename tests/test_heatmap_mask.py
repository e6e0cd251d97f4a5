"""The mask of the heatmap loss: crowd regions and people without joints, through MMPose's own transforms."""

import numpy as np
import pytest
import xtcocotools.mask as coco_mask
from mmpose.registry import TRANSFORMS

CROWD = np.zeros((40, 40), np.uint8)
CROWD[8:16, 20:32] = 1


def uncompressed(mask):
    """COCO's own form for crowd regions: run lengths in column order, beginning with zeros."""
    flat, counts, value = mask.flatten(order='F'), [], 0
    while len(flat):
        run = next((i for i, v in enumerate(flat) if v != value), len(flat))
        counts.append(run)
        flat, value = flat[run:], 1 - value
    return dict(size=[40, 40], counts=counts)


def build():
    return TRANSFORMS.build(dict(type='InstanceHeatmapMask', heatmap_size=(10, 10)))


def run(segments, **extra):
    return build()(dict(img_shape=(40, 40), input_size=(40, 40), invalid_segs=segments, **extra))['heatmap_mask']


@pytest.mark.parametrize(
    'segment',
    [uncompressed(CROWD), coco_mask.encode(np.asfortranarray(CROWD)), [[20, 8, 32, 8, 32, 16, 20, 16]]],
    ids=['uncompressed RLE', 'compressed RLE', 'polygons'],
)
def test_every_kind_of_segmentation_is_masked(segment):
    expected = np.ones((1, 10, 10), bool)
    expected[0, 2:4, 5:8] = False
    np.testing.assert_array_equal(run([segment]), expected)


def test_crowds_and_people_together_and_no_one():
    mask = run([uncompressed(CROWD), [[0, 0, 4, 0, 4, 4, 0, 4]]])
    assert not mask[0, 0, 0] and not mask[0, 2, 5] and mask.sum() == 100 - 1 - 6
    assert run([]).all()


def test_it_follows_flip_and_warp_and_keeps_the_padding_valid():
    flipped = run([uncompressed(CROWD)], flip=True, flip_direction='horizontal')
    np.testing.assert_array_equal(flipped, run([uncompressed(CROWD)])[..., ::-1])
    halved = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)
    warped = run([uncompressed(CROWD)], warp_mat=halved)
    assert warped[0, 5:].all() and warped[0, :, 5:].all()  # outside the image: known to be empty
    assert not warped[0, 1, 3]
