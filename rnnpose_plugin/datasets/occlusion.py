"""Plain NumPy: one person, cut out along their mask and pasted in front of the people of another image.

People are COCO annotations (dicts). Frames as in ``placement.py``: boxes in edge coordinates, joints in index
coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from .donors import Donor, Donors
from .keypoint_file import count_joints
from .placement import Placement, area_of, clip_box, corners, place_at_iou, place_box, place_joints, place_pixels
from .segmentation import to_mask, to_segmentation

# Below 0.5, bilinear resampling skips pixels of the donor; above 2, the donor is visibly blurred next to sharp people,
# which a network could use to recognise pasted people.
SCALES = (0.5, 2.0)


@dataclass(frozen=True)
class OcclusionSettings:
    """How people are pasted over people.

    Args:
        iou (tuple[float, float]): Range of the IoU of the two boxes, 0 < least <= greatest < 1.
        min_keypoints (int): Labelled joints of the target and visible joints (v 2) of the donor inside the image, at
            least 1. Defaults to 5.
        drop_covered (bool): Whether covered joints lose their label and wholly covered people are removed. Defaults to
            False.
        max_tries (int): Random draws per image, at least 1. Defaults to 10.

    Raises:
        ValueError: if a setting is out of range.
    """

    iou: tuple[float, float]
    min_keypoints: int = 5
    drop_covered: bool = False
    max_tries: int = 10

    def __post_init__(self) -> None:
        pair = isinstance(self.iou, (list, tuple)) and len(self.iou) == 2 and all(map(is_number, self.iou))
        if not pair or not 0 < self.iou[0] <= self.iou[1] < 1:
            raise ValueError(f'iou is {self.iou!r}; give the least and the greatest, both between 0 and 1.')
        for name in ('min_keypoints', 'max_tries'):
            value = getattr(self, name)
            if not is_number(value) or not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} is {value!r}; choose 1 or more.')
        if not isinstance(self.drop_covered, bool):
            raise ValueError(f'drop_covered is {self.drop_covered!r}; choose True or False.')


class LabelledImage(NamedTuple):
    """An image and its annotations.

    Args:
        image: (H, W, 3).
        people: COCO annotations of everyone in it.
        path: Of the image file.
        flip_indices: (K,) for each joint its index after mirroring; None disables mirroring.
    """

    image: np.ndarray
    people: list[dict]
    path: str
    flip_indices: Sequence[int] | None


class Occlusion(NamedTuple):
    """An image with one person pasted over another.

    Args:
        image: (H, W, 3).
        people: COCO annotations, back to front as far as known; the pasted person is last.
        target: Annotation of the person pasted over, before pasting.
        donor: The person pasted.
    """

    image: np.ndarray
    people: list[dict]
    target: dict
    donor: Donor


class _Pair(NamedTuple):
    """A random draw: target and donor, IoU of their boxes, direction of the shift in radians, mirroring."""

    target: dict
    donor: Donor
    iou: float
    angle: float
    mirrored: bool


class _CutOut(NamedTuple):
    """A donor in the frame of the image: box (4,), joints (K, 3), pixels (H, W, 3) and mask (H, W)."""

    box: np.ndarray
    joints: np.ndarray
    pixels: np.ndarray
    mask: np.ndarray


def occlude(
    source: LabelledImage, donors: Donors, settings: OcclusionSettings, random: np.random.RandomState
) -> Occlusion | None:
    """Paste a random donor over a random person of the image, at a random IoU of their boxes.

    The donor is scaled to the area of the target's box within ``SCALES``, mirrored with probability 0.5, and shifted in
    a random direction. Boxes are clipped to the image before the IoU is computed. A donor is never pasted over itself
    (the same id in an image of the same name), nor over a person of another category.

    Args:
        source: The image, not changed.
        donors: People to paste.
        settings: How they are pasted.
        random: Random generator; the module ``np.random`` stands for numpy's global one.

    Returns:
        The occlusion; None if the image has no target or no draw could be placed.

    Raises:
        ValueError: if the donors have another number of joints than the people, or none has the target's category.
        OSError: if a donor's image cannot be read.
    """
    targets = [p for p in source.people if not p.get('iscrowd', 0) and count_joints(p) >= settings.min_keypoints]
    for _ in range(settings.max_tries if targets else 0):
        pair = _draw_pair(targets, donors, settings.iou, random)
        _check_labels(pair, donors)
        cut_out = _place(pair, source, donors, settings.min_keypoints)
        if cut_out is not None:
            return _compose(source, pair, cut_out, settings.drop_covered)
    return None


def is_number(value: object) -> bool:
    """Whether a setting is a number; True and False are none.

    Args:
        value: Of a config.

    Returns:
        bool: True for int and float.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _draw_pair(targets: list[dict], donors: Donors, iou: tuple[float, float], random: np.random.RandomState) -> _Pair:
    target = targets[random.randint(len(targets))]
    donor = donors.people[random.randint(len(donors.people))]
    return _Pair(target, donor, random.uniform(*iou), random.uniform(0, 2 * np.pi), random.uniform() < 0.5)


def _check_labels(pair: _Pair, donors: Donors) -> None:
    """Refuse donors that are labelled in another way than the people of the image."""
    target, donor = pair.target, pair.donor
    if len(target['keypoints']) != donor.joints.size:
        raise ValueError(
            f'The donors have {len(donor.joints)} joints and the people of the image {len(target["keypoints"]) // 3}; '
            'give donors labelled in the same way.'
        )
    if target['category_id'] not in donors.categories:
        raise ValueError(
            f'The donors have category {sorted(donors.categories)} and a person of the image has '
            f'{target["category_id"]}; give donors labelled in the same way.'
        )


def _place(pair: _Pair, source: LabelledImage, donors: Donors, min_keypoints: int) -> _CutOut | None:
    """The donor in the frame of the image; None if this pair cannot be placed."""
    donor, target, size = pair.donor, pair.target, source.image.shape[:2]
    is_itself = donor.id == target['id'] and Path(donor.path).name == Path(source.path).name
    if donor.category_id != target['category_id'] or is_itself:
        return None
    target_box = corners(target['bbox'], size)
    scale = float(np.clip(np.sqrt(area_of(target_box) / area_of(donor.box)), *SCALES))
    mirrored = pair.mirrored and source.flip_indices is not None
    direction = np.array([np.cos(pair.angle), np.sin(pair.angle)])
    centred = Placement(scale, mirrored, np.zeros(2))
    placement = place_at_iou(centred, donor.box, target_box, pair.iou, direction, size)
    if placement is None:
        return None
    joints = place_joints(donor.joints, placement, source.flip_indices, size)
    if (joints[:, 2] == 2).sum() < min_keypoints:
        return None
    pixels, mask = place_pixels(*donors.cut_out(donor), placement, size)
    return _CutOut(clip_box(place_box(donor.box, placement), size), joints, pixels, mask) if mask.any() else None


def _compose(source: LabelledImage, pair: _Pair, cut_out: _CutOut, drop_covered: bool) -> Occlusion:
    people, mask, size = source.people, cut_out.mask, source.image.shape[:2]
    behind = [cover(_inside(person, size), mask, drop_covered) for person in people]
    x1, y1, x2, y2 = cut_out.box.tolist()
    pasted = dict(
        id=max(person['id'] for person in people) + 1,
        image_id=pair.target['image_id'],
        category_id=pair.target['category_id'],
        iscrowd=0,
        keypoints=_flat_joints(cut_out.joints),
        num_keypoints=int((cut_out.joints[:, 2] > 0).sum()),
        bbox=[x1, y1, x2 - x1, y2 - y1],
        area=int(mask.sum()),
        segmentation=to_segmentation(mask),
    )
    everyone = [person for person in behind if person is not None] + [pasted]
    return Occlusion(paste(source.image, cut_out.pixels, mask), everyone, pair.target, pair.donor)


def _inside(annotation: dict, size: tuple[int, int]) -> dict:
    """A person with the box clipped to the image, as in MMPose and OCHuman; the same object if it is inside."""
    x, y, w, h = annotation['bbox']
    x1, y1, x2, y2 = corners(annotation['bbox'], size).tolist()
    if [x1, y1, x2, y2] == [x, y, x + w, y + h]:
        return annotation
    return dict(annotation, bbox=[x1, y1, x2 - x1, y2 - y1])


def paste(image: np.ndarray, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put a person in front.

    Args:
        image: (H, W, 3), not changed.
        pixels: (H, W, 3), the person in place.
        mask: (H, W) bool, the person's pixels.

    Returns:
        (H, W, 3) of the first image's type.
    """
    return np.where(mask[..., None], pixels.astype(image.dtype, copy=False), image)


def _joints_under(joints: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(K,) bool: which labelled joints (K, 3) lie on the pixels of a mask; False outside the image."""
    column, row = np.floor(joints[:, :2] + 0.5).astype(int).T
    height, width = mask.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (joints[:, 2] > 0)
    return inside & mask[np.where(inside, row, 0), np.where(inside, column, 0)]


def cover(annotation: dict, mask: np.ndarray, drop_covered: bool) -> dict | None:
    """A person or crowd region behind a mask.

    Covered joints get v 1 (labelled, not visible), or 0 with ``drop_covered``. The segmentation loses the covered
    pixels and becomes an RLE; ``area`` is the number of pixels left. ``bbox`` stays that of the whole person. Without a
    segmentation of this image's size only the joints change.

    Args:
        annotation: COCO annotation, not changed.
        mask: (H, W) bool, the covered pixels.
        drop_covered: Whether covered joints lose their label and wholly covered people are removed.

    Returns:
        The same object if nothing of it is covered, else a changed copy; None if it is removed.
    """
    joints = np.asarray(annotation['keypoints'], float).reshape(-1, 3)
    covered = _joints_under(joints, mask)
    own = to_mask(annotation.get('segmentation'), mask.shape)
    loses_pixels = own is not None and (own & mask).any()
    if not (covered.any() or loses_pixels):
        return annotation
    changed = dict(annotation)
    if covered.any():
        joints[covered] = 0 if drop_covered else np.column_stack([joints[covered, :2], np.ones(covered.sum())])
        changed.update(keypoints=_flat_joints(joints), num_keypoints=int((joints[:, 2] > 0).sum()))
    if loses_pixels:
        own &= ~mask
        if drop_covered and not own.any():
            return None
        changed.update(segmentation=to_segmentation(own), area=int(own.sum()))
    return changed


def _flat_joints(joints: np.ndarray) -> list[float]:
    """(K, 3) joints as COCO's ``keypoints``, v as int."""
    return [number for x, y, v in joints.tolist() for number in (x, y, int(v))]
