"""Plain NumPy: one person, cut out along their mask, put in front of the people of a picture.

People are COCO annotations (dicts), boxes inside this file (x1, y1, x2, y2). Two frames, both in pixels: boxes and
polygons are in *edge* coordinates (the box 0, 0, 1, 1 is the first pixel), joints in *index* coordinates (the centre of
the first pixel is 0, 0), as everywhere in COCO; index = edge - 0.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from .donors import Donor, Donors
from .keypoint_file import count_joints
from .placement import area_of, clip_box, corners, place_at_iou, place_box, place_joints, place_pixels
from .segmentation import to_mask, to_segmentation

# Shrunk further, bilinear resampling would skip pixels of the donor; enlarged further, it would be visibly blurred
# beside the sharp people of the picture, which a network could learn to tell apart by.
SCALES = (0.5, 2.0)


class Occlusion(NamedTuple):
    """A picture with somebody pasted over somebody else.

    Args:
        image: (H, W, 3).
        people: COCO annotations, back to front as far as known: the last one was pasted.
        target: Annotation over which it was pasted, as it was before.
        donor: Who was pasted.
    """

    image: np.ndarray
    people: list[dict]
    target: dict
    donor: Donor


def occlude(
    image: np.ndarray,
    people: list[dict],
    path: str,
    donors: Donors,
    iou: tuple[float, float],
    min_keypoints: int,
    drop_covered: bool,
    max_tries: int,
    flip_indices: Sequence[int] | None,
    random: np.random.RandomState,
) -> Occlusion | None:
    """Paste a random donor over a random person of the picture, at a random IoU of their boxes.

    The donor is scaled to the area of the target's box as far as ``SCALES`` allows, mirrored half of the time, and
    shifted in a random direction. The donor's box is that of the person as far as it is inside the picture.
    Nobody is pasted over themselves, which is to say over the same id on a picture of the same name, nor over somebody
    of another category. Whoever's box reaches beyond the picture gets the part of it that is inside.

    Args:
        image: (H, W, 3), left as it is.
        people: COCO annotations of everybody in it, left as they are.
        path: Of the picture.
        donors: Who can be pasted.
        iou: Least and greatest IoU.
        min_keypoints: Labelled joints that the target has, and visible ones that the donor still has in this picture.
        drop_covered: See :func:`rnnpose_plugin.datasets.occlusion.cover`.
        max_tries: Draws of target, donor, IoU, mirroring and direction.
        flip_indices: For each joint the one it becomes in a mirror; None: nobody is mirrored.
        random: Where chance comes from; ``np.random`` itself is numpy's global generator.

    Returns:
        The occlusion; None where the picture has no target, or no draw could be placed.

    Raises:
        ValueError: if the donors have another number of joints than the people, or none has the target's category.
        OSError: if a donor's picture cannot be read.
    """
    height, width = image.shape[:2]
    targets = [person for person in people if not person.get('iscrowd', 0) and count_joints(person) >= min_keypoints]
    for _ in range(max_tries if targets else 0):
        target = targets[random.randint(len(targets))]
        donor = donors.people[random.randint(len(donors.people))]
        wanted, angle, mirrored = random.uniform(*iou), random.uniform(0, 2 * np.pi), random.uniform() < 0.5
        if len(target['keypoints']) != donor.joints.size:
            raise ValueError(
                f'The donors have {len(donor.joints)} joints and the people of the picture '
                f'{len(target["keypoints"]) // 3}; give donors labelled in the same way.'
            )
        if target['category_id'] not in donors.categories:
            raise ValueError(
                f'The donors are of category {sorted(donors.categories)} and somebody in the picture of '
                f'{target["category_id"]}; give donors labelled in the same way.'
            )
        if donor.category_id != target['category_id']:
            continue
        if donor.id == target['id'] and Path(donor.path).name == Path(path).name:
            continue
        over = corners(target['bbox'], height, width)
        scale = float(np.clip(np.sqrt(area_of(over) / area_of(donor.box)), *SCALES))
        direction = np.array([np.cos(angle), np.sin(angle)])
        mirrored = mirrored and flip_indices is not None
        placement = place_at_iou(donor.box, over, wanted, scale, mirrored, direction, height, width)
        if placement is None:
            continue
        joints = place_joints(donor.joints, placement, flip_indices, height, width)
        if (joints[:, 2] == 2).sum() < min_keypoints:
            continue
        pixels, mask = place_pixels(*donors.cut_out(donor), placement, height, width)
        if not mask.any():
            continue
        left = [cover(inside(person, height, width), mask, drop_covered) for person in people]
        x1, y1, x2, y2 = clip_box(place_box(donor.box, placement), height, width).tolist()
        pasted = dict(
            id=max(person['id'] for person in people) + 1,
            image_id=target['image_id'],
            category_id=target['category_id'],
            iscrowd=0,
            keypoints=flat_joints(joints),
            num_keypoints=int((joints[:, 2] > 0).sum()),
            bbox=[x1, y1, x2 - x1, y2 - y1],
            area=int(mask.sum()),
            segmentation=to_segmentation(mask),
        )
        everybody = [person for person in left if person is not None] + [pasted]
        return Occlusion(paste(image, pixels, mask), everybody, target, donor)
    return None


def inside(annotation: dict, height: int, width: int) -> dict:
    """Somebody with the part of their box that is inside the picture, as the toolbox and OCHuman have it.

    Args:
        annotation: COCO annotation, left as it is.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        The same object where nothing of the box is outside, else a changed copy.
    """
    x, y, w, h = annotation['bbox']
    x1, y1, x2, y2 = corners(annotation['bbox'], height, width).tolist()
    if [x1, y1, x2, y2] == [x, y, x + w, y + h]:
        return annotation
    return dict(annotation, bbox=[x1, y1, x2 - x1, y2 - y1])


def paste(image: np.ndarray, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put the person in front.

    Args:
        image: (height, width, 3), left as it is.
        pixels: (height, width, 3), the person in place.
        mask: (height, width) bool, the person's pixels.

    Returns:
        (height, width, 3) of the first image's type.
    """
    return np.where(mask[..., None], pixels.astype(image.dtype, copy=False), image)


def joints_under(joints: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Which labelled joints lie on the pixels of a mask.

    Args:
        joints: (K, 3) x, y and COCO's v, index coordinates.
        mask: (height, width) bool.

    Returns:
        (K,) bool; false for joints outside the picture.
    """
    column, row = np.floor(joints[:, :2] + 0.5).astype(int).T
    height, width = mask.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (joints[:, 2] > 0)
    return inside & mask[np.where(inside, row, 0), np.where(inside, column, 0)]


def cover(annotation: dict, mask: np.ndarray, drop_covered: bool) -> dict | None:
    """What is left of somebody, or of a crowd region, behind a mask.

    Covered joints get v 1 (labelled, not visible), or 0 with ``drop_covered``. The segmentation loses the covered
    pixels and becomes an RLE, ``area`` is the number of those left. ``bbox`` stays: it is the whole person's. Without
    a segmentation of this picture's size only the joints are known, and only they change.

    Args:
        annotation: COCO annotation, left as it is.
        mask: (height, width) bool, what is now covered.
        drop_covered: Whether covered joints are no longer labelled, and whoever was wholly covered no longer there.

    Returns:
        The same object where nothing of it is covered, else a changed copy; None for whoever is dropped.
    """
    joints = np.asarray(annotation['keypoints'], float).reshape(-1, 3)
    covered = joints_under(joints, mask)
    own = to_mask(annotation.get('segmentation'), *mask.shape)
    loses_pixels = own is not None and (own & mask).any()
    if not (covered.any() or loses_pixels):
        return annotation
    left = dict(annotation)
    if covered.any():
        joints[covered] = 0 if drop_covered else np.column_stack([joints[covered, :2], np.ones(covered.sum())])
        left.update(keypoints=flat_joints(joints), num_keypoints=int((joints[:, 2] > 0).sum()))
    if loses_pixels:
        own &= ~mask
        if drop_covered and not own.any():
            return None
        left.update(segmentation=to_segmentation(own), area=int(own.sum()))
    return left


def flat_joints(joints: np.ndarray) -> list[float]:
    """Joints in COCO's form.

    Args:
        joints: (K, 3) x, y, v.

    Returns:
        3 K numbers, the flags whole.
    """
    return [number for x, y, v in joints.tolist() for number in (x, y, int(v))]
