"""People behind a pasted one: joints, masks and areas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rectangle_people import (
    HEIGHT,
    NO_MASK,
    SIZE,
    WIDTH,
    as_text,
    compressed,
    joints_of,
    person,
    polygon,
    rectangle,
    uncompressed,
)

from rnnpose_plugin.datasets.occlusion import cover
from rnnpose_plugin.datasets.segmentation import to_mask


@pytest.mark.parametrize('kind', [polygon, uncompressed, compressed, as_text])
@pytest.mark.parametrize('drop', [False, True])
def test_masks_joints_and_areas_of_covered_people(kind, drop):
    shape = (20, 10, 30, 40)
    segmentation = polygon(*shape) if kind is polygon else kind(rectangle(*shape))
    joints = [24.4, 20, 2, 24.6, 20, 2, 22, 20, 1, 40, 20, 2, 41, 20, 1, 22, 20, 0] + [0, 0, 0] * 11
    annotation = person(1, 1, *shape, segmentation=segmentation, keypoints=joints, num_keypoints=5)
    before = json.dumps({key: value for key, value in annotation.items() if key != 'segmentation'})
    front = rectangle(0, 0, 25, HEIGHT)  # columns 0 to 24: the second joint, at 24.6, is nearest to column 25
    left = cover(annotation, front, drop)
    flags = joints_of(left)[:6, 2].tolist()
    assert flags == ([0, 2, 0, 2, 1, 0] if drop else [1, 2, 1, 2, 1, 0])
    assert left['num_keypoints'] == (3 if drop else 5)
    np.testing.assert_array_equal(joints_of(left)[0, :2], [0, 0] if drop else [24.4, 20])
    np.testing.assert_array_equal(to_mask(left['segmentation'], SIZE), rectangle(25, 10, 25, 40))
    json.dumps(left['segmentation'])
    assert left['area'] == 25 * 40 and left['bbox'] == [20, 10, 30, 40]
    assert before == json.dumps({key: value for key, value in annotation.items() if key != 'segmentation'})


def test_uncovered_people_stay_the_same_object_and_wholly_covered_ones_are_kept_or_removed():
    annotation = person(1, 1, 20, 10, 30, 40)
    assert cover(annotation, rectangle(0, 0, 20, HEIGHT), True) is annotation
    everything = rectangle(0, 0, WIDTH, HEIGHT)
    assert cover(annotation, everything, True) is None
    kept = cover(annotation, everything, False)
    assert kept['area'] == 0 and not to_mask(kept['segmentation'], SIZE).any()
    assert joints_of(kept)[:, 2].tolist() == [1] * 17


@pytest.mark.parametrize(
    'segmentation',
    [
        None,
        [],
        [[1, 2, 3, 4]],  # the C code would read a box
        [[1, 2, 3, 4, 5]],
        dict(size=[8, 8], counts=[0, 64]),
        as_text(rectangle(1, 1, 4, 4, (8, 8))),
        dict(size=[HEIGHT, WIDTH], counts=[0, HEIGHT * WIDTH + 1]),
        dict(size=[HEIGHT, WIDTH]),
        {},
        *[change['segmentation'] for change in NO_MASK if change['segmentation'] is not ...],
    ],
)
def test_without_a_valid_mask_only_joints_change(segmentation):
    assert to_mask(segmentation, SIZE) is None
    left = cover(person(1, 1, 20, 10, 30, 40, segmentation=segmentation), rectangle(0, 0, WIDTH, HEIGHT), True)
    assert left['segmentation'] == segmentation and left['area'] == 1200 and left['num_keypoints'] == 0
