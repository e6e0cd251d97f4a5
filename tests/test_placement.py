"""Placement of pasted pixels, joints and boxes, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from rectangle_people import BACKGROUND, DONOR_COLOUR, HEIGHT, SIZE, WIDTH, rectangle

from rnnpose_plugin.datasets.occlusion import SCALES, paste
from rnnpose_plugin.datasets.placement import (
    Placement,
    box_iou,
    clip_box,
    place_at_iou,
    place_box,
    place_joints,
    place_pixels,
)

PLACEMENTS = [
    Placement(1.0, False, np.array([7.0, -3.0])),
    Placement(1.0, True, np.array([50.0, 4.0])),
    Placement(2.0, False, np.array([-8.0, -6.5])),
    Placement(0.5, True, np.array([30.25, 5.5])),
]


def paste_by_loop(target, image, mask, placement):
    """Pixel by pixel: its source in the donor's image, bilinearly, and whether the person is there."""
    result, height, width = target.astype(float), *mask.shape
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            sign = -1 if placement.mirrored else 1
            x = (column + 0.5 - placement.offset[0]) / (sign * placement.scale) - 0.5
            y = (row + 0.5 - placement.offset[1]) / placement.scale - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            colour, share = np.zeros(3), 0.0
            for r in (top, top + 1):
                for c in (left, left + 1):
                    weight = (1 - abs(x - c)) * (1 - abs(y - r))
                    if 0 <= r < height and 0 <= c < width:
                        share += weight * mask[r, c]
                    colour += weight * image[min(max(r, 0), height - 1), min(max(c, 0), width - 1)]
            if share >= 0.5:
                result[row, column] = colour
    return result


@pytest.mark.parametrize('placement', PLACEMENTS, ids=['shifted', 'mirrored', 'larger', 'smaller, mirrored'])
@pytest.mark.parametrize('solid', [True, False])
def test_pasted_pixels_are_those_of_a_plain_loop(placement, solid):
    rng = np.random.RandomState(0)
    target = np.full((36, 44, 3), BACKGROUND, np.uint8)
    image = np.full((30, 26, 3), DONOR_COLOUR, np.uint8) if solid else rng.randint(0, 256, (30, 26, 3), np.uint8)
    mask = rectangle(4, 6, 9, 15, (30, 26)) | rectangle(10, 20, 16, 10, (30, 26))  # cut off by two borders
    before = target.copy()
    result = paste(target, *place_pixels(image, mask, placement, (36, 44)))
    expected = paste_by_loop(target, image, mask, placement)
    assert (expected != target).any() and (expected == target).all(-1).any()
    # OpenCV rounds to whole grey levels; a single colour needs no rounding.
    np.testing.assert_allclose(result, expected, atol=0 if solid else 0.51)
    assert result.dtype == np.uint8 and (target == before).all()


@pytest.mark.parametrize('placement', PLACEMENTS[:3])
def test_joints_and_boxes_move_with_their_pixels(placement):
    """A joint on a single pixel stays on it, and the box stays around it."""
    mask = rectangle(12, 9, 1, 1, (30, 26))
    joints = np.array([[12, 9, 2], [12, 9, 1], [3, 3, 0]], float)
    _, placed = place_pixels(np.zeros((30, 26, 3), np.uint8), mask, placement, (36, 44))
    rows, columns = np.nonzero(placed)
    moved = place_joints(joints, placement, [1, 0, 2], (36, 44))
    flags = [1, 2, 0] if placement.mirrored else [2, 1, 0]
    assert moved[:, 2].tolist() == flags and moved[2].tolist() == [0, 0, 0]
    # Enlarged by bilinear resampling, a single pixel may lose half a pixel on a side.
    room = 0.5 * (placement.scale - 1)
    assert abs(moved[0, 0] - columns.mean()) <= room and abs(moved[0, 1] - rows.mean()) <= room
    box = place_box(np.array([12.0, 9, 13, 10]), placement)
    outline = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, outline, atol=placement.scale - 1)


def test_joints_outside_the_image_are_not_labelled():
    joints = np.array([[-0.5, 0, 2], [-0.6, 0, 2], [43.4, 35.4, 1], [43.5, 0, 2], [0, 35.5, 1]], float)
    moved = place_joints(joints, Placement(1.0, False, np.zeros(2)), None, (36, 44))
    assert moved[:, 2].tolist() == [2, 0, 1, 0, 0] and not moved[[1, 3, 4]].any()


def test_the_iou_is_the_wanted_one_or_impossible():
    """Against boxes rasterised at 1/8 pixel."""
    rng, found = np.random.RandomState(1), 0
    for _ in range(60):
        (x, y), (w, h) = rng.uniform(0, 40, 2), rng.uniform(16, 50, 2)
        box = np.array([5.0, 8, 5 + rng.uniform(16, 40), 8 + rng.uniform(16, 40)])
        target = clip_box(np.array([x, y, x + w, y + h]), SIZE)
        wanted, angle, scale = rng.uniform(0.1, 0.9), rng.uniform(0, 7), rng.uniform(*SCALES)
        mirrored, direction = bool(rng.randint(2)), np.array([np.cos(angle), np.sin(angle)])
        placement = place_at_iou(Placement(scale, mirrored, None), box, target, wanted, direction, SIZE)
        (small_w, large_w), (small_h, large_h) = (
            sorted([(box[i + 2] - box[i]) * scale, target[i + 2] - target[i]]) for i in (0, 1)
        )
        shared = small_w * small_h
        concentric = shared / ((box[2:] - box[:2]).prod() * scale**2 + (target[2:] - target[:2]).prod() - shared)
        if placement is None:
            # The image border only cuts off parts outside the target.
            assert concentric < wanted or large_w > small_w or large_h > small_h
            continue
        found += 1
        drawn = [np.zeros((HEIGHT * 8, WIDTH * 8), bool) for _ in range(2)]
        for canvas, (x1, y1, x2, y2) in zip(drawn, (place_box(box, placement), target)):
            x1, y1, x2, y2 = np.maximum(np.round(np.array([x1, y1, x2, y2]) * 8), 0).astype(int)
            canvas[y1:y2, x1:x2] = True
        # A box of 16 px is rasterised to within 1/16 px on each of 4 sides: 1.5 % of its area.
        assert abs((drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum() - wanted) < 0.02
        # The bisection itself is exact but for floats.
        assert abs(box_iou(clip_box(place_box(box, placement), SIZE), target) - wanted) < 1e-6
    assert found > 15


def test_an_iou_that_the_shapes_of_the_boxes_exclude_is_refused():
    upright, flat = np.array([0.0, 0, 10, 40]), np.array([20.0, 20, 60, 30])
    # Concentric, they share 10 x 10 of 700.
    for wanted, possible in ((0.14, True), (0.15, False)):
        found = place_at_iou(Placement(1.0, False, None), upright, flat, wanted, np.array([1.0, 0]), SIZE)
        assert (found is not None) == possible
