"""Hand-made images: people are rectangles with 17 joints on a grid, the background has one colour."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import xtcocotools.mask as coco_mask
from mmpose.registry import DATASETS

ROOT = Path(__file__).parent.parent
COCO_MINI = Path(os.environ.get('RNNPOSE_TEST_DATA', ROOT.parent / 'shared' / 'data')) / 'coco_mini'
needs_coco_mini = pytest.mark.skipif(
    not (COCO_MINI / 'annotations').is_dir(),
    reason=f'no coco_mini under {COCO_MINI.parent}; set RNNPOSE_TEST_DATA to the folder that holds it',
)

SIDES = ['eye', 'ear', 'shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle']
NAMES = ['nose', *(f'{side}_{part}' for part in SIDES for side in ('left', 'right'))]
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
SIZE = HEIGHT, WIDTH = 64, 96  # of all hand-made images
BACKGROUND, DONOR_COLOUR = (40, 90, 140), (200, 30, 10)


def rectangle(x, y, w, h, shape=SIZE):
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
    """A COCO file with PNG images of one colour each, by image id."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    for image, colour in colours.items():
        cv2.imwrite(str(folder / 'images' / f'{image}.png'), np.full((HEIGHT, WIDTH, 3), colour, np.uint8))
    images = [dict(id=image, file_name=f'{image}.png', height=HEIGHT, width=WIDTH) for image in colours]
    categories = categories or [dict(id=1, name='person', keypoints=NAMES, skeleton=[])]
    path = folder / 'people.json'
    path.write_text(json.dumps(dict(images=images, annotations=people, categories=categories)))
    return path


PEOPLE = [
    person(1, 1, 30, 10, 24, 40),
    crowd(2, 1, 24, 6, 40, 30),
    person(3, 1, 66, 20, 30, 30, v=0, num_keypoints=0),  # unlabelled; up to the border
]


def load(folder, *steps, name='people.json'):
    """The only sample of MMPose's own data set."""
    cfg = dict(ann_file=str(folder / name), data_prefix=dict(img=f'{folder}/images/'), data_mode='bottomup')
    return DATASETS.build(dict(type='CocoDataset', **cfg, pipeline=[dict(type='LoadPoseImage'), *steps]))[0]


def joints_of(annotation):
    return np.array(annotation['keypoints'], float).reshape(-1, 3)


# Faults of annotations by the reason in the log; ... stands for a missing field.
NAN = float('nan')
LEFT_OUT = {
    'without an id': [dict(id=None), dict(id='7'), dict(id=...)],
    'with a duplicate id': [dict(id=1)],
    'whose image is not listed with file_name, height and width': [
        dict(image_id=None), dict(image_id=...), dict(image_id=99), dict(image_id=[1]),
    ],
    'of an unknown category': [dict(category_id=9), dict(category_id=None), dict(category_id=...)],
    'whose box is not four numbers': [
        dict(bbox=None), dict(bbox=[]), dict(bbox=...), dict(bbox=[1, 2, 3]), dict(bbox=[NAN, 5, 9, 9]),
        dict(bbox=[5, None, 9, 9]), dict(bbox=[5, 5, float('inf'), 9]), dict(bbox='box'),
    ],
}  # fmt: skip
UNLABELLED = {
    'without keypoints': [dict(keypoints=None), dict(keypoints=[]), dict(keypoints=...)],
    'whose keypoints are not triples of numbers': [
        dict(keypoints=[5, 5, 2] * 17 + [1]), dict(keypoints=[5, None, 2] * 17), dict(keypoints=[NAN, 5, 2] * 17),
        dict(keypoints=[[5, 5, 2]] * 17), dict(keypoints=7),
    ],
    'with another number of joints than most': [dict(keypoints=[5, 5, 2] * 14), dict(keypoints=[5, 5, 2] * 18)],
}  # fmt: skip
NO_MASK = [
    dict(segmentation=None), dict(segmentation=...), dict(segmentation=[]), dict(segmentation=7),
    dict(segmentation=[200, 5, 210, 5, 210, 9]), dict(segmentation=[[5, 5, 9, NAN, 9, 9]]),
    dict(segmentation=[[5, 5, 9, None, 9, 9]]), dict(segmentation=[None]),
    dict(segmentation=dict(size=None, counts=[])), dict(segmentation=dict(size=[HEIGHT, WIDTH], counts=[None])),
    dict(segmentation=dict(size=[HEIGHT, WIDTH], counts=5)),
]  # fmt: skip


def broken(changes, first_id, image, *place):
    """People with one change each."""
    people = [person(first_id + i, image, *place, **change) for i, change in enumerate(changes)]
    return [{key: value for key, value in someone.items() if value is not ...} for someone in people]


def every(table):
    return [change for changes in table.values() for change in changes]
