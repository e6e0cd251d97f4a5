"""COCO segmentations of every kind, and malformed ones."""

from __future__ import annotations

import numpy as np
import pytest
import xtcocotools.mask as coco_mask
from pycocotools import mask as rle
from rectangle_people import (
    BACKGROUND,
    HEIGHT,
    SIZE,
    WIDTH,
    as_text,
    compressed,
    load,
    person,
    polygon,
    rectangle,
    uncompressed,
    write_coco,
)

from rnnpose_plugin.datasets.segmentation import are_numbers, run_lengths, to_rle, to_run_lists


def test_an_rle_becomes_a_list_of_run_lengths_and_others_stay():
    mask = rectangle(3, 0, 9, HEIGHT) | rectangle(0, 0, 1, 1)
    for kind in (uncompressed, compressed, as_text):
        assert to_run_lists(kind(mask), SIZE) == [uncompressed(mask)]
    for other in (None, [], polygon(3, 4, 5, 6), dict(size=[8, 8], counts=[64])):
        assert to_run_lists(other, SIZE) is other


@pytest.mark.parametrize('number', [None, 'a', float('nan'), float('inf'), -2e6, 10**400, '12'])
def test_values_that_are_not_pixel_coordinates(number):
    assert are_numbers([]) and are_numbers([1, 2.5, -3]) and not are_numbers([1, number]) and not are_numbers(number)


@pytest.mark.parametrize('compressed', [False, True])
def test_run_lengths_of_another_sum_are_refused(compressed):
    """The C code would write past its buffer."""
    good = to_rle([[3, 2, 30, 5, 20, 40]], SIZE)
    runs = run_lengths(good['counts'])
    assert sum(runs) == HEIGHT * WIDTH and min(runs) >= 0 and len(runs) > 20
    mask = np.concatenate([np.full(run, place % 2) for place, run in enumerate(runs)]).reshape(WIDTH, HEIGHT).T
    np.testing.assert_array_equal(mask, coco_mask.decode(good))
    if compressed:
        larger = rle.encode(np.asfortranarray(np.eye(2 * HEIGHT, 2 * WIDTH, dtype=np.uint8)))['counts']
        bad = [larger, 'not an RLE', '']
    else:
        bad = [[-10, HEIGHT * WIDTH + 10], [HEIGHT * WIDTH + 1], []]
    for counts in bad:
        assert to_rle(dict(size=[HEIGHT, WIDTH], counts=counts), SIZE) is None


def test_what_has_another_size_or_half_a_point_is_no_mask():
    turned = as_text(rectangle(3, 4, 5, 6).T)
    assert sum(run_lengths(turned['counts'])) == HEIGHT * WIDTH
    assert to_rle(turned, SIZE) is None and to_rle([[3, 2, 30, 5, 20, 40, 7]], SIZE) is None


ODD = [
    ..., None, [], [[]], [[5, 5]], [[5, 5, 9, 9]], [5, 5, 20, 5, 20, 20], '', {}, [None],
    dict(size=[7, 7], counts=[49]), dict(size=[7, 7], counts='x'),
    [[-164.1, -221.8, 2.1e8, 3.5e8, 226.0, 236.6]], [[5, 5, 9, float('nan'), 9, 9]],
]  # fmt: skip


@pytest.mark.parametrize('v', [0, 2])
@pytest.mark.parametrize('segmentation', ODD, ids=str)
def test_any_segmentation_is_loaded_beside_whole_ones(tmp_path, segmentation, v):
    """Also first and last in an image; only whole ones of people without joints are masked."""
    fields = dict(segmentation=segmentation, num_keypoints=17 if v else 0)
    odd = [person(number, 1, 50, 10, 24, 40, v=v, **fields) for number in (1, 4)]
    if segmentation is ...:
        odd = [{key: value for key, value in one.items() if key != 'segmentation'} for one in odd]
    masked = person(3, 1, 0, 0, 24, 32, v=0, num_keypoints=0)
    write_coco(tmp_path, [odd[0], person(2, 1, 20, 10, 24, 40), masked, odd[1]], {1: BACKGROUND})
    steps = (dict(type='InstanceHeatmapMask', heatmap_size=(WIDTH // 4, HEIGHT // 4)),)
    resize = dict(type='BottomupResize', input_size=(WIDTH, HEIGHT))
    sample = load(tmp_path, resize, *steps)
    assert all(sample['invalid_segs'])  # MMPose's BottomupGetHeatmapMask takes no others
    assert sample['annotated_size'] == SIZE and len(sample['keypoints']) == 4
    expected = np.ones((1, HEIGHT // 4, WIDTH // 4), bool)
    expected[0, :8, :6] = False
    np.testing.assert_array_equal(sample['heatmap_mask'], expected)
