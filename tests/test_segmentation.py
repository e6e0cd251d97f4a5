"""COCO segmentations of every kind, and malformed ones."""

from __future__ import annotations

import numpy as np
import pytest
import xtcocotools.mask as coco_mask
from pycocotools import mask as rle
from rectangle_people import HEIGHT, SIZE, WIDTH, as_text, compressed, polygon, rectangle, uncompressed

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
