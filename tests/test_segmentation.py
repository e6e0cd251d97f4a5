"""COCO segmentations of every kind, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import xtcocotools.mask as coco_mask
from pycocotools import mask as rle
from rectangle_people import HEIGHT, WIDTH, as_text, compressed, polygon, rectangle, uncompressed

from rnnpose_plugin.datasets.segmentation import are_numbers, run_lengths, to_rle, to_run_lists


def test_an_rle_as_a_list_and_what_is_none():
    mask = rectangle(3, 0, 9, HEIGHT) | rectangle(0, 0, 1, 1)
    for kind in (uncompressed, compressed, as_text):
        assert to_run_lists(kind(mask), HEIGHT, WIDTH) == [uncompressed(mask)]
    for other in (None, [], polygon(3, 4, 5, 6), dict(size=[8, 8], counts=[64])):
        assert to_run_lists(other, HEIGHT, WIDTH) is other


@pytest.mark.parametrize('number', [None, 'a', float('nan'), float('inf'), -2e6, 10**400, '12'])
def test_what_is_no_number_of_pixels(number):
    assert are_numbers([]) and are_numbers([1, 2.5, -3]) and not are_numbers([1, number]) and not are_numbers(number)


@pytest.mark.parametrize('compressed', [False, True])
def test_run_lengths_that_do_not_fit_are_no_mask(compressed):
    """The C code would write past its buffer."""
    good = to_rle([[3, 2, 30, 5, 20, 40]], HEIGHT, WIDTH)
    runs = run_lengths(good['counts'])
    assert sum(runs) == HEIGHT * WIDTH and min(runs) >= 0 and len(runs) > 20
    mask = np.concatenate([np.full(run, place % 2) for place, run in enumerate(runs)]).reshape(WIDTH, HEIGHT).T
    np.testing.assert_array_equal(mask, coco_mask.decode(good))
    if compressed:
        larger = rle.encode(np.asfortranarray(np.eye(2 * HEIGHT, 2 * WIDTH, dtype=np.uint8)))['counts']
        bad = [larger, 'no such text', '']
    else:
        bad = [[-10, HEIGHT * WIDTH + 10], [HEIGHT * WIDTH + 1], []]
    for counts in bad:
        assert to_rle(dict(size=[HEIGHT, WIDTH], counts=counts), HEIGHT, WIDTH) is None
