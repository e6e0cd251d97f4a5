"""People pasted over people: pixels, joints, masks and boxes against plain loops and the toolbox's own loader."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import xtcocotools.mask as coco_mask
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpose.registry import DATASETS, TRANSFORMS
from pycocotools import mask as rle
from pycocotools.coco import COCO

from rnnpose_plugin.datasets.copy_paste import SCALES
from rnnpose_plugin.datasets.donors import Donors
from rnnpose_plugin.datasets.occluded_set import mirrored_joints, write_occluded_set
from rnnpose_plugin.datasets.occlusion import (
    Placement,
    box_iou,
    clip_box,
    cover,
    paste,
    place_at_iou,
    place_box,
    place_joints,
    place_pixels,
    run_lengths,
    to_mask,
    to_rle,
)

ROOT = Path(__file__).parent.parent
COCO_MINI = Path(os.environ.get('RNNPOSE_TEST_DATA', ROOT.parent / 'shared' / 'data')) / 'coco_mini'
needs_coco_mini = pytest.mark.skipif(
    not (COCO_MINI / 'annotations').is_dir(),
    reason=f'no coco_mini under {COCO_MINI.parent}; set RNNPOSE_TEST_DATA to the folder that holds it',
)

SIDES = ['eye', 'ear', 'shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle']
NAMES = ['nose', *(f'{side}_{part}' for part in SIDES for side in ('left', 'right'))]
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
HEIGHT, WIDTH = 64, 96  # of all hand-made pictures
BACKGROUND, DONOR_COLOUR = (40, 90, 140), (200, 30, 10)


# ------------------------------------------------------------------------------------------------ hand-made pictures
def rectangle(x, y, w, h, shape=(HEIGHT, WIDTH)):
    mask = np.zeros(shape, bool)
    mask[y : y + h, x : x + w] = True
    return mask


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def uncompressed(mask):
    """Run lengths in column order, beginning with zeros."""
    flat = mask.flatten(order='F').astype(int)
    ends = [0, *(np.nonzero(np.diff(flat))[0] + 1).tolist(), len(flat)]
    counts = [b - a for a, b in zip(ends, ends[1:])]
    return dict(size=list(mask.shape), counts=[0, *counts] if flat[0] else counts)


def compressed(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def as_text(mask):
    encoded = compressed(mask)
    return dict(encoded, counts=encoded['counts'].decode())


def person(number, image, x, y, w, h, v=2, **changes):
    """A rectangle of a person with 17 joints on a grid inside it."""
    joints = [(x + (0.2 + 0.2 * (j % 4)) * w, y + (0.1 + 0.15 * (j // 4)) * h, v) for j in range(17)]
    flat = [float(value) if i < 2 else value for joint in joints for i, value in enumerate(joint)]
    flat = [number_ if i % 3 == 2 else round(number_) for i, number_ in enumerate(flat)]
    fields = dict(
        id=number, image_id=image, category_id=1, iscrowd=0, keypoints=flat, num_keypoints=17,
        bbox=[x, y, w, h], area=w * h, segmentation=polygon(x, y, w, h),
    )  # fmt: skip
    return {**fields, **changes}


def crowd(number, image, x, y, w, h):
    segmentation = uncompressed(rectangle(x, y, w, h))
    return person(number, image, x, y, w, h, v=0, iscrowd=1, num_keypoints=0, segmentation=segmentation)


def write_coco(folder, people, colours, categories=None):
    """A COCO file with PNG pictures of one colour each, by image id."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    for image, colour in colours.items():
        cv2.imwrite(str(folder / 'images' / f'{image}.png'), np.full((HEIGHT, WIDTH, 3), colour, np.uint8))
    images = [dict(id=image, file_name=f'{image}.png', height=HEIGHT, width=WIDTH) for image in colours]
    categories = categories or [dict(id=1, name='person', keypoints=NAMES, skeleton=[])]
    path = folder / 'people.json'
    path.write_text(json.dumps(dict(images=images, annotations=people, categories=categories)))
    return path


PICTURE = [
    person(1, 1, 30, 10, 24, 40),
    crowd(2, 1, 24, 6, 40, 30),
    person(3, 1, 66, 20, 30, 30, v=0, num_keypoints=0),  # nobody labelled it; up to the border
]


@pytest.fixture
def picture(tmp_path):
    """Folder of one picture with a target, a crowd region behind and somebody without joints."""
    write_coco(tmp_path / 'target', PICTURE, {1: BACKGROUND})
    return tmp_path / 'target'


@pytest.fixture
def donors(tmp_path):
    write_coco(tmp_path / 'donors', [person(50, 7, 20, 10, 20, 44)], {7: DONOR_COLOUR})
    return tmp_path / 'donors'


def step(donors, **options):
    defaults = dict(annotations=str(donors / 'people.json'), img_prefix=str(donors / 'images'), prob=1)
    return dict(type='CopyPasteOcclusion', **{**defaults, **options})


def load(folder, *steps, name='people.json'):
    """The only sample of the toolbox's own data set."""
    cfg = dict(ann_file=str(folder / name), data_prefix=dict(img=f'{folder}/images/'), data_mode='bottomup')
    return DATASETS.build(dict(type='CocoDataset', **cfg, pipeline=[dict(type='LoadPoseImage'), *steps]))[0]


def occluded(picture, donors, seed=0, **options):
    np.random.seed(seed)
    return load(picture, step(donors, **options))


def joints_of(annotation):
    return np.array(annotation['keypoints'], float).reshape(-1, 3)


# ------------------------------------------------------------------------------------------------------------- pixels
PLACEMENTS = [
    Placement(1.0, False, np.array([7.0, -3.0])),
    Placement(1.0, True, np.array([50.0, 4.0])),
    Placement(2.0, False, np.array([-8.0, -6.5])),
    Placement(0.5, True, np.array([30.25, 5.5])),
]


def paste_by_loop(target, image, mask, placement):
    """Pixel by pixel: where in the donor's picture does this one come from, and is it the person there?"""
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
    result = paste(target, *place_pixels(image, mask, placement, 36, 44))
    expected = paste_by_loop(target, image, mask, placement)
    assert (expected != target).any() and (expected == target).all(-1).any()
    # OpenCV rounds to whole grey levels; of one colour nothing is left to round.
    np.testing.assert_allclose(result, expected, atol=0 if solid else 0.51)
    assert result.dtype == np.uint8 and (target == before).all()


@pytest.mark.parametrize('placement', PLACEMENTS[:3])
def test_joints_and_boxes_move_with_their_pixels(placement):
    """A joint on a lonely pixel: it is where the pixel is, and so is the box around it."""
    mask = rectangle(12, 9, 1, 1, (30, 26))
    joints = np.array([[12, 9, 2], [12, 9, 1], [3, 3, 0]], float)
    _, placed = place_pixels(np.zeros((30, 26, 3), np.uint8), mask, placement, 36, 44)
    rows, columns = np.nonzero(placed)
    moved = place_joints(joints, placement, [1, 0, 2], 36, 44)
    flags = [1, 2, 0] if placement.mirrored else [2, 1, 0]
    assert moved[:, 2].tolist() == flags and moved[2].tolist() == [0, 0, 0]
    # Enlarged by bilinear resampling, a lonely pixel may lose half a pixel on a side.
    room = 0.5 * (placement.scale - 1)
    assert abs(moved[0, 0] - columns.mean()) <= room and abs(moved[0, 1] - rows.mean()) <= room
    box = place_box(np.array([12.0, 9, 13, 10]), placement)
    outline = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, outline, atol=placement.scale - 1)


def test_joints_outside_the_picture_are_not_labelled():
    joints = np.array([[-0.5, 0, 2], [-0.6, 0, 2], [43.4, 35.4, 1], [43.5, 0, 2], [0, 35.5, 1]], float)
    moved = place_joints(joints, Placement(1.0, False, np.zeros(2)), None, 36, 44)
    assert moved[:, 2].tolist() == [2, 0, 1, 0, 0] and not moved[[1, 3, 4]].any()


def test_the_iou_is_the_one_asked_for_or_cannot_be_had():
    """Against boxes drawn at 1/8 pixel: of the drawn pair's pixels, shared ones over all."""
    rng, found = np.random.RandomState(1), 0
    for _ in range(60):
        (x, y), (w, h) = rng.uniform(0, 40, 2), rng.uniform(16, 50, 2)
        box = np.array([5.0, 8, 5 + rng.uniform(16, 40), 8 + rng.uniform(16, 40)])
        target = clip_box(np.array([x, y, x + w, y + h]), HEIGHT, WIDTH)
        wanted, angle, scale = rng.uniform(0.1, 0.9), rng.uniform(0, 7), rng.uniform(*SCALES)
        mirrored, direction = bool(rng.randint(2)), np.array([np.cos(angle), np.sin(angle)])
        placement = place_at_iou(box, target, wanted, scale, mirrored, direction, HEIGHT, WIDTH)
        (small_w, large_w), (small_h, large_h) = (
            sorted([(box[i + 2] - box[i]) * scale, target[i + 2] - target[i]]) for i in (0, 1)
        )
        shared = small_w * small_h
        concentric = shared / ((box[2:] - box[:2]).prod() * scale**2 + (target[2:] - target[:2]).prod() - shared)
        if placement is None:
            # The picture's border can only cut off what the middle of the target would not share.
            assert concentric < wanted or large_w > small_w or large_h > small_h
            continue
        found += 1
        drawn = [np.zeros((HEIGHT * 8, WIDTH * 8), bool) for _ in range(2)]
        for canvas, (x1, y1, x2, y2) in zip(drawn, (place_box(box, placement), target)):
            x1, y1, x2, y2 = np.maximum(np.round(np.array([x1, y1, x2, y2]) * 8), 0).astype(int)
            canvas[y1:y2, x1:x2] = True
        # A box of 16 px is drawn right to 1/16 px on each of 4 sides: 1.5 % of its area.
        assert abs((drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum() - wanted) < 0.02
        # The bisection itself is exact but for floats.
        assert abs(box_iou(clip_box(place_box(box, placement), HEIGHT, WIDTH), target) - wanted) < 1e-6
    assert found > 15


def test_an_iou_beyond_the_boxes_shapes_is_not_forced():
    upright, flat = np.array([0.0, 0, 10, 40]), np.array([20.0, 20, 60, 30])
    # Concentric, they share 10 x 10 of 700.
    for wanted, possible in ((0.14, True), (0.15, False)):
        found = place_at_iou(upright, flat, wanted, 1.0, False, np.array([1.0, 0]), HEIGHT, WIDTH)
        assert (found is not None) == possible


# ------------------------------------------------------------------------------------------------- what people become
@pytest.mark.parametrize('kind', [polygon, uncompressed, compressed, as_text])
@pytest.mark.parametrize('drop', [False, True])
def test_masks_joints_and_areas_of_covered_people(kind, drop):
    shape = (20, 10, 30, 40)
    segmentation = polygon(*shape) if kind is polygon else kind(rectangle(*shape))
    joints = [24.4, 20, 2, 24.6, 20, 2, 22, 20, 1, 40, 20, 2, 41, 20, 1, 22, 20, 0] + [0, 0, 0] * 11
    someone = person(1, 1, *shape, segmentation=segmentation, keypoints=joints, num_keypoints=5)
    before = json.dumps({key: value for key, value in someone.items() if key != 'segmentation'})
    front = rectangle(0, 0, 25, HEIGHT)  # columns 0 to 24: the second joint, at 24.6, is nearest to column 25
    left = cover(someone, front, drop)
    flags = joints_of(left)[:6, 2].tolist()
    assert flags == ([0, 2, 0, 2, 1, 0] if drop else [1, 2, 1, 2, 1, 0])
    assert left['num_keypoints'] == (3 if drop else 5)
    np.testing.assert_array_equal(joints_of(left)[0, :2], [0, 0] if drop else [24.4, 20])
    np.testing.assert_array_equal(to_mask(left['segmentation'], HEIGHT, WIDTH), rectangle(25, 10, 25, 40))
    json.dumps(left['segmentation'])
    assert left['area'] == 25 * 40 and left['bbox'] == [20, 10, 30, 40]
    assert before == json.dumps({key: value for key, value in someone.items() if key != 'segmentation'})


def test_who_is_not_covered_stays_the_same_and_who_is_wholly_covered_goes_or_stays():
    someone = person(1, 1, 20, 10, 30, 40)
    assert cover(someone, rectangle(0, 0, 20, HEIGHT), True) is someone
    everything = rectangle(0, 0, WIDTH, HEIGHT)
    assert cover(someone, everything, True) is None
    kept = cover(someone, everything, False)
    assert kept['area'] == 0 and not to_mask(kept['segmentation'], HEIGHT, WIDTH).any()
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
    ],
)
def test_without_a_usable_mask_only_joints_change(segmentation):
    assert to_mask(segmentation, HEIGHT, WIDTH) is None
    left = cover(person(1, 1, 20, 10, 30, 40, segmentation=segmentation), rectangle(0, 0, WIDTH, HEIGHT), True)
    assert left['segmentation'] == segmentation and left['area'] == 1200 and left['num_keypoints'] == 0


# -------------------------------------------------------------------------------------------- through the toolbox
@pytest.mark.parametrize('drop', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_entries_are_those_that_the_toolbox_would_load(picture, donors, drop, seed):
    """The changed annotations are written to a file, and the toolbox's own loader reads it."""
    done = occluded(picture, donors, seed, drop_covered=drop)
    assert done['raw_ann_info'][-1]['area'] > 0
    people = [dict(annotation, image_id=1) for annotation in done['raw_ann_info']]
    content = json.loads((picture / 'people.json').read_text())
    (picture / 'again.json').write_text(json.dumps(dict(content, annotations=people)))
    again = load(picture, name='again.json')
    assert set(done) == set(again)
    for key in ('bbox', 'bbox_score', 'keypoints', 'keypoints_visible', 'area', 'category_id'):
        assert done[key].dtype == again[key].dtype, key
        np.testing.assert_array_equal(done[key], again[key], err_msg=key)
    for key in ('num_keypoints', 'iscrowd', 'id', 'invalid_segs', 'raw_ann_info'):
        assert done[key] == again[key], key
    assert len(done['segmentation']) == len(people)


@pytest.mark.parametrize('seed', range(4))
def test_the_picture_the_pair_and_the_crowd_region(picture, donors, seed):
    done = occluded(picture, donors, seed, iou=(0.4, 0.6))
    target, region, _, pasted = done['raw_ann_info']
    front = to_mask(pasted['segmentation'], HEIGHT, WIDTH)
    expected = np.full((HEIGHT, WIDTH, 3), BACKGROUND)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if front[row, column]:
                expected[row, column] = DONOR_COLOUR
    np.testing.assert_array_equal(done['img'], expected)
    x, y, w, h = pasted['bbox']
    # The donor is a rectangle, so its pixels fill its box but for what rounding leaves at four sides.
    assert abs(front.sum() - w * h) <= w + h + 2 and pasted['area'] == front.sum()
    assert 0.4 - 1e-6 <= rle.iou([pasted['bbox']], [target['bbox']], [0])[0, 0] <= 0.6 + 1e-6
    assert (to_mask(target['segmentation'], HEIGHT, WIDTH) == rectangle(30, 10, 24, 40) & ~front).all()
    assert (to_mask(region['segmentation'], HEIGHT, WIDTH) == rectangle(24, 6, 40, 30) & ~front).all()
    hidden = [bool(front[round(y), round(x)]) for x, y, _ in joints_of(target)]
    assert any(hidden) and joints_of(target)[:, 2].tolist() == [1 if h else 2 for h in hidden]
    assert done['keypoints_visible'][0].tolist() == [1] * 17  # covered ones stay labelled


def test_dropped_joints_are_not_labelled_and_people_without_any_are_masked_out(tmp_path, picture, donors):
    done = occluded(picture, donors, drop_covered=True, iou=(0.5, 0.6))
    front = to_mask(done['raw_ann_info'][-1]['segmentation'], HEIGHT, WIDTH)
    hidden = np.array([front[round(y), round(x)] for x, y, _ in joints_of(PICTURE[0])])
    assert hidden.any() and done['keypoints_visible'][0].tolist() == (~hidden).astype(float).tolist()
    # Somebody with one joint, in the middle of the target where every donor of this IoU covers it.
    lonely = person(4, 1, 30, 10, 24, 40, num_keypoints=1)
    lonely['keypoints'] = [42, 30, 2] + [0] * 48
    write_coco(picture, [*PICTURE, lonely], {1: BACKGROUND})
    done = occluded(picture, donors, drop_covered=True, iou=(0.6, 0.65))
    assert done['id'] == [1, 2, 3, 4, 5] and done['num_keypoints'][3] == 0
    assert done['raw_ann_info'][3]['segmentation'] in done['invalid_segs']


def targets_and_mask(picture, *steps):
    """The whole training pipeline; the affine step is the identity here."""
    codec = dict(type='InstanceHeatmap', input_size=(WIDTH, HEIGHT), heatmap_size=(WIDTH // 2, HEIGHT // 2))
    affine = dict(input_size=(WIDTH, HEIGHT), shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long')
    sample = load(
        picture,
        *steps,
        dict(type='BottomupRandomAffine', **affine),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='InstanceHeatmapMask', heatmap_size=(WIDTH // 2, HEIGHT // 2)),
        dict(type='PackPoseInputs'),
    )
    return sample['inputs'], sample['data_samples']


def test_the_training_pipeline_trains_on_the_pasted_person_in_front_of_a_crowd(picture, donors):
    _, plain = targets_and_mask(picture)
    np.random.seed(3)
    inputs, sample = targets_and_mask(picture, step(donors))
    front = (inputs.numpy() == np.array(DONOR_COLOUR).reshape(3, 1, 1)).all(0)
    cells = front.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    before, after = plain.gt_fields.heatmap_mask[0].numpy(), sample.gt_fields.heatmap_mask[0].numpy()
    assert not before[cells == 1].all() and after[cells == 1].all()  # it was a crowd region, it is somebody now
    np.testing.assert_array_equal(after[cells == 0], before[cells == 0])
    labels = sample.gt_instance_labels
    assert len(plain.gt_instance_labels.keypoint_labels) == 1 and len(labels.keypoint_labels) == 2
    x, y = ((labels.keypoint_labels[1] + 0.5) * 2 - 0.5)[labels.keypoint_weights[1] > 0].round().int().T
    assert front[y, x].all()


def columns_of_pasted(results, donors, draws):
    """Columns of the joints of one donor, pasted several times, and its own."""
    transform = TRANSFORMS.build(step(donors))
    np.random.seed(0)
    own = joints_of(person(50, 7, 20, 10, 20, 44))[:, 0]
    for _ in range(draws):
        x, _, v = joints_of(transform(dict(results))['raw_ann_info'][-1]).T
        if v.all():  # wholly inside the picture
            yield x, own


def test_mirrored_donors_swap_left_and_right(picture, donors):
    """What was the left eye is the right one in a mirror, on the other side of the body."""
    ways = {True: 0, False: 0}
    for x, own in columns_of_pasted(load(picture), donors, 20):
        # Moved and scaled, columns stay on a straight line; the two cases exclude each other.
        straight, swapped = np.corrcoef(x, own)[0, 1] > 0.999, np.corrcoef(x, -own[FLIP])[0, 1] > 0.999
        assert straight != swapped
        ways[bool(swapped)] += 1
    assert min(ways.values()) >= 3


def test_without_flip_indices_nobody_is_mirrored(picture, donors):
    results = load(picture)
    del results['flip_indices']
    found = [np.corrcoef(x, own)[0, 1] for x, own in columns_of_pasted(results, donors, 12)]
    assert len(found) >= 6 and min(found) > 0.999


def test_the_same_seed_gives_the_same_picture(picture, donors):
    first, second, other = (occluded(picture, donors, seed) for seed in (5, 5, 6))
    assert (first['img'] == second['img']).all() and first['raw_ann_info'] == second['raw_ann_info']
    assert first['raw_ann_info'] != other['raw_ann_info']


def test_prob_is_the_share_of_pictures_that_change(picture, donors):
    results, transform = load(picture), TRANSFORMS.build(step(donors, prob=0.5))
    np.random.seed(0)
    changed = sum(transform(dict(results))['img'] is not results['img'] for _ in range(100))
    assert 35 <= changed <= 65  # three standard deviations of 100 coins


def test_pictures_without_a_target_pass_unchanged(tmp_path, donors):
    people = [crowd(1, 1, 24, 6, 40, 30), person(2, 1, 66, 20, 16, 30, v=0, num_keypoints=0)]
    few = person(3, 1, 5, 5, 30, 50)
    few['keypoints'][12:] = [0] * 39  # 4 joints
    write_coco(tmp_path / 'nobody', [*people, few, person(4, 1, 200, 5, 30, 50)], {1: BACKGROUND})
    before, after = load(tmp_path / 'nobody'), occluded(tmp_path / 'nobody', donors)
    assert (before['img'] == after['img']).all() and before['raw_ann_info'] == after['raw_ann_info']
    assert TRANSFORMS.build(step(donors))(dict(raw_ann_info=None)) == dict(raw_ann_info=None)  # nobody at all


def test_when_no_draw_fits_the_picture_is_left_as_it_was(picture, donors):
    before, after = load(picture), occluded(picture, donors, iou=(0.98, 0.99))
    assert (before['img'] == after['img']).all() and before['raw_ann_info'] == after['raw_ann_info']


@pytest.mark.parametrize(('size', 'pasted_size'), [((12, 20), (24, 40)), ((20, 30), None), ((6, 10), (12, 20))])
def test_donors_are_scaled_to_the_targets_area_at_most_twice(tmp_path, picture, size, pasted_size):
    """The target is 24 x 40; twice the last donor's sides are less than that."""
    write_coco(tmp_path / 'small', [person(50, 7, 20, 10, *size)], {7: DONOR_COLOUR})
    transform, results = TRANSFORMS.build(step(tmp_path / 'small', iou=(0.1, 0.15))), load(picture)
    np.random.seed(0)
    pasted = [transform(dict(results))['raw_ann_info'][-1] for _ in range(20)]
    sizes = [someone['bbox'][2:] for someone in pasted if someone['id'] == 4]
    whole = [(w, h) for w, h in sizes if abs(w / h - size[0] / size[1]) < 1e-6]  # not cut off by the border
    assert len(whole) >= 3
    expected = pasted_size or tuple(np.array(size) * (24 * 40 / (size[0] * size[1])) ** 0.5)
    np.testing.assert_allclose(whole, [expected] * len(whole), rtol=1e-6)


def test_enough_of_the_donor_is_inside_the_picture(tmp_path, donors):
    """A target at the picture's corner: many placements would show a foot only."""
    corner = tmp_path / 'corner'
    write_coco(corner, [person(1, 1, 0, 0, 12, 22)], {1: BACKGROUND})
    transform, results = TRANSFORMS.build(step(donors, iou=(0.1, 0.3))), load(corner)
    np.random.seed(0)
    people = [transform(dict(results))['raw_ann_info'][-1] for _ in range(60)]
    seen = [(joints_of(someone)[:, 2] == 2).sum() for someone in people if someone['id'] == 2]
    assert len(seen) >= 20 and 5 <= min(seen) < 17


def test_nobody_is_pasted_over_themselves(picture):
    after = occluded(picture, picture)
    assert len(after['raw_ann_info']) == len(PICTURE)


# ----------------------------------------------------------------------------------------------------- what is refused
BAD = {
    'without a mask': [dict(segmentation=None), dict(segmentation=[]), dict(segmentation=[[200, 5, 210, 5, 210, 9]])],
    'whose box is outside the image': [dict(bbox=[200, 5, 20, 20])],
    'of an unknown category': [dict(category_id=9)],
    'whose image is missing': [dict(image_id=8), dict(image_id=99)],
    'whose keypoints are no triples': [dict(keypoints=[5, 5, 2] * 17 + [1])],
}


def bad_people(first_id):
    changes = [change for kind in BAD.values() for change in kind]
    return [person(first_id + i, 7, 20, 10, 20, 44, **change) for i, change in enumerate(changes)]


def test_bad_donors_are_skipped_with_one_line(tmp_path, caplog):
    people = [
        *bad_people(1),
        person(60, 7, 5, 5, 20, 20, iscrowd=1),
        person(61, 7, 20, 10, 20, 44, v=1),
        person(62, 7, 9, 9, 9, 9),
    ]
    path = write_coco(tmp_path, people, {7: DONOR_COLOUR, 8: DONOR_COLOUR})
    (tmp_path / 'images' / '8.png').unlink()
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel('INFO')  # another test may have left it quieter
    try:
        donors = Donors(str(path), str(tmp_path / 'images'), 5)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    assert [donor.id for donor in donors.people] == [62]
    (line,) = [record.getMessage() for record in caplog.records]
    assert all(f'{len(changes)} {fault}' in line for fault, changes in BAD.items()) and '1 people to cut out' in line


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


def test_people_of_an_unknown_category_are_not_in_the_set(tmp_path):
    people = [person(60, 7, 5, 5, 20, 44, category_id=9), person(61, 7, 20, 10, 20, 44), person(62, 7, 40, 10, 20, 44)]
    path = write_coco(tmp_path, people, {7: DONOR_COLOUR})
    out = write_occluded_set(str(path), str(tmp_path / 'images'), tmp_path / 'out', (0.3, 0.7), 3)
    assert {a['category_id'] for a in json.loads(out.read_text())['annotations']} == {1}


def test_a_file_without_donors_is_refused(tmp_path, picture):
    write_coco(tmp_path / 'bad', bad_people(1), {7: DONOR_COLOUR})
    transform = TRANSFORMS.build(step(tmp_path / 'bad'))  # read at the first use only
    with pytest.raises(ValueError, match='nobody to cut out.*3 without a mask.*give a COCO keypoint file'):
        transform(load(picture))
    with pytest.raises(FileNotFoundError, match='does not exist; give'):
        Donors(str(tmp_path / 'nothing.json'), '', 5)
    (tmp_path / 'text.json').write_text('{')
    with pytest.raises(ValueError, match='no valid JSON.*fetch it again'):
        Donors(str(tmp_path / 'text.json'), '', 5)
    (tmp_path / 'other.json').write_text('{"images": []}')
    with pytest.raises(ValueError, match='lacks one of annotations, categories, images; give'):
        Donors(str(tmp_path / 'other.json'), '', 5)


def test_donors_must_fit(tmp_path, picture, donors):
    short = person(50, 7, 20, 10, 20, 44)
    short['keypoints'] = short['keypoints'][:42]
    write_coco(tmp_path / 'short', [short], {7: DONOR_COLOUR})
    with pytest.raises(ValueError, match='14 joints.*17; give donors labelled in the same way'):
        occluded(picture, tmp_path / 'short')
    cv2.imwrite(str(donors / 'images' / '7.png'), np.zeros((WIDTH, HEIGHT, 3), np.uint8))  # turned by 90 degrees
    with pytest.raises(ValueError, match='96 x 64 pixels.*64 x 96; correct'):
        occluded(picture, donors)


@pytest.mark.parametrize(
    ('before', 'sentence'),
    [
        (dict(type='RandomFlip', direction='horizontal', prob=1.0), 'left flip'),
        (dict(type='BottomupRandomAffine', input_size=(64, 64)), 'left warp_mat'),
        (dict(type='FilterAnnotations', by_kpt=True), 'took people out'),
    ],
)
def test_behind_a_step_that_moves_the_picture_it_is_refused(picture, donors, before, sentence):
    with pytest.raises(ValueError, match=f'{sentence}.*right after LoadPoseImage'):
        load(picture, before, step(donors))


@pytest.mark.parametrize(
    'setting',
    [
        dict(prob=1.5), dict(iou=(0.7, 0.3)), dict(iou=(0, 0.3)), dict(iou=(0.5, 1)), dict(iou=(0.5,)),
        dict(min_keypoints=0), dict(max_tries=0),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_at_construction(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f'^{name} is .*; (choose|give) '):
        TRANSFORMS.build(dict(type='CopyPasteOcclusion', annotations='', img_prefix='', **setting))


# ------------------------------------------------------------------------------------------------------------ the tool
def run_tool(*arguments):
    command = [sys.executable, str(ROOT / 'tools' / 'make_occluded.py'), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def hashes(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_set(out, annotations, iou, count):
    """What anybody who reads COCO files may ask for."""
    coco, source = COCO(out / 'annotations' / 'occluded.json'), COCO(annotations)
    originals = {image['file_name']: image['id'] for image in source.imgs.values()}
    assert len(coco.imgs) == count and len(coco.anns) == len(coco.dataset['annotations'])
    covered_joints = 0
    for image in coco.imgs.values():
        assert cv2.imread(str(out / 'images' / image['file_name'])).shape == (image['height'], image['width'], 3)
        people = coco.imgToAnns[image['id']]
        assert len(people) == len(source.imgToAnns[originals[image['source']]]) + 1
        target, pasted = (coco.anns[i] for i in image['pair'])
        # To a hundredth, as everybody can measure it; the bisection is exact but for floats.
        assert iou[0] - 1e-6 <= rle.iou([target['bbox']], [pasted['bbox']], [0])[0, 0] <= iou[1] + 1e-6
        front = coco.annToMask(pasted).astype(bool)
        assert front.sum() == pasted['area'] > 0
        x, y, w, h = pasted['bbox']
        assert 0 <= x and 0 <= y and x + w <= image['width'] + 1e-9 and y + h <= image['height'] + 1e-9
        for someone in people:
            mask, joints = coco.annToMask(someone).astype(bool), joints_of(someone)
            assert someone['num_keypoints'] == (joints[:, 2] > 0).sum()
            if someone is pasted:
                continue
            assert not (mask & front).any() and (mask.any() or someone['iscrowd'])
            column, row = np.floor(joints[:, :2] + 0.5).astype(int).T
            under = front[row.clip(0, front.shape[0] - 1), column.clip(0, front.shape[1] - 1)] & (joints[:, 2] > 0)
            assert (joints[under, 2] == 1).all()
            covered_joints += under.sum()
    assert covered_joints


def test_the_tool_end_to_end(tmp_path):
    people = [*PICTURE, person(10, 4, 30, 6, 22, 44), person(11, 4, 60, 10, 20, 40), person(12, 5, 8, 8, 25, 50)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9), 5: DONOR_COLOUR})
    arguments = ['--annotations', source, '--images', tmp_path / 'images', '--iou', 0.4, 0.6, '--seed', 3]
    done = run_tool(*arguments, '--count', 5, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / 'out' / 'annotations' / 'occluded.json')
    assert '5/5' in done.stderr
    check_set(tmp_path / 'out', source, (0.4, 0.6), 5)
    again = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'again', (0.4, 0.6), 5, 3)
    assert again.is_file() and hashes(tmp_path / 'out') == hashes(tmp_path / 'again')
    write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'fewer', (0.4, 0.6), 2, 3)
    assert hashes(tmp_path / 'fewer')['images/000002.jpg'] == hashes(tmp_path / 'out')['images/000002.jpg']
    write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'other', (0.4, 0.6), 5, 4)
    assert hashes(tmp_path / 'other') != hashes(tmp_path / 'out')
    assert load(tmp_path / 'out', name='annotations/occluded.json')['keypoints'].shape[1:] == (17, 2)


def test_a_picture_on_which_somebody_would_vanish_is_not_written(tmp_path):
    hidden = person(4, 1, 41, 29, 2, 2, num_keypoints=0, v=0)  # in the middle of the target, always covered
    people = [person(1, 1, 30, 10, 24, 40), hidden, person(10, 4, 30, 6, 24, 40)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.7, 0.75), 3)
    assert {image['source'] for image in json.loads(path.read_text())['images']} == {'4.png'}


def test_the_seed_and_the_round_change_the_pairs_of_the_same_picture(tmp_path):
    people = [person(1, 1, 30, 10, 24, 40), person(2, 1, 60, 10, 20, 40)]
    source = write_coco(tmp_path, people, {1: BACKGROUND})
    boxes = set()
    for seed in (0, 1):
        path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.4, 0.6), 2, seed)
        content = json.loads(path.read_text())
        pasted = {image['pair'][1] for image in content['images']}
        boxes |= {tuple(someone['bbox']) for someone in content['annotations'] if someone['id'] in pasted}
    assert len(boxes) == 4


@pytest.mark.parametrize(
    ('arguments', 'status', 'sentence'),
    [
        (['--iou', 0.8, 0.5], 2, 'iou is (0.8, 0.5); give'),
        (['--count', 0], 2, 'count is 0; choose 1 or more'),
        (['--seed', -1], 2, 'seed is -1; choose 0 or more'),
        (['--iou', 0.998, 0.999], 1, 'on none of 2 pictures'),
        (['--annotations', 'nothing.json'], 1, 'nothing.json does not exist; give'),
        (['--images', 'nowhere'], 2, '2 whose image is missing'),
    ],
)
def test_the_tool_fails_in_one_sentence(tmp_path, capsys, arguments, status, sentence):
    people = [person(1, 1, 30, 10, 24, 40), person(10, 4, 30, 6, 22, 44)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    sys.path.insert(0, str(ROOT / 'tools'))
    try:
        from make_occluded import main
    finally:
        sys.path.pop(0)
    usual = ['--annotations', source, '--images', tmp_path / 'images', '--out', tmp_path / 'out']
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in (*usual, *arguments)])
    error = capsys.readouterr().err
    assert stop.value.code == status and sentence in error.splitlines()[-1], error
    assert not list(tmp_path.glob('out/annotations/*.json'))


def test_mirrored_joints_come_from_their_names():
    assert mirrored_joints(dict(keypoints=NAMES)) == FLIP
    assert mirrored_joints(dict(keypoints=['left_eye', 'nose'])) is None
    assert mirrored_joints(dict()) is None


# -------------------------------------------------------------------------------------------------------- real pictures
@needs_coco_mini
def test_real_pictures_through_the_papers_training_pipeline():
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_coco.py').train_dataloader.dataset
    paste_step = dict(
        type='CopyPasteOcclusion',
        annotations=str(COCO_MINI / cfg.ann_file),
        img_prefix=str(COCO_MINI / 'train2017'),
        prob=1,
    )
    pipeline = [cfg.pipeline[0], paste_step, *cfg.pipeline[1:]]
    affine = next(part for part in pipeline if part['type'] == 'BottomupRandomAffine')
    affine.update(shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long')  # the whole picture: nobody is cut off
    plain = DATASETS.build(dict(cfg, data_root=f'{COCO_MINI}/', pipeline=[]))
    dataset = DATASETS.build(dict(cfg, data_root=f'{COCO_MINI}/', pipeline=pipeline))
    np.random.seed(0)
    more = 0
    for i in range(0, len(dataset), 3):
        info, sample = plain.get_data_info(i), dataset[i]['data_samples']
        people = ((info['keypoints_visible'] > 0).any(1) & ~np.array(info['iscrowd'], bool)).sum()
        found = len(sample.gt_instance_labels.keypoint_labels)
        assert found in (people, people + 1) and sample.gt_fields.heatmap_mask.shape == (1, 128, 128)
        more += found - people
    assert more >= 5


@needs_coco_mini
def test_real_pictures_through_the_tool(tmp_path):
    source = COCO_MINI / 'annotations' / 'person_keypoints_val2017.json'
    write_occluded_set(str(source), str(COCO_MINI / 'val2017'), tmp_path)
    check_set(tmp_path, source, (0.5, 0.75), len(list((tmp_path / 'images').iterdir())))
