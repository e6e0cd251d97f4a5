"""Plain NumPy: where a cut-out person comes to lie in another image, and at which IoU of the boxes.

People are COCO annotations (dicts), boxes inside this file (x1, y1, x2, y2). Two frames, both in pixels: boxes and
polygons are in *edge* coordinates (the box 0, 0, 1, 1 is the first pixel), joints in *index* coordinates (the centre of
the first pixel is 0, 0), as everywhere in COCO; index = edge - 0.5.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np

BISECTIONS = 40  # halvings of a way of some 1000 px: far below what float32 boxes can hold


class Placement(NamedTuple):
    """How a cut-out person is brought into a picture: ``edge' = factors * edge + offset``.

    Args:
        scale: Size in the picture over size where the person was cut out, > 0.
        mirrored: Left and right exchanged.
        offset: (2,) x and y, edge coordinates of the picture.
    """

    scale: float
    mirrored: bool
    offset: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """(2,) of x and y; x is negative where mirrored."""
        return np.array([-self.scale if self.mirrored else self.scale, self.scale])


def place_box(box: np.ndarray, placement: Placement) -> np.ndarray:
    """Where a box comes to lie.

    Args:
        box: (4,) x1, y1, x2, y2, where the person was cut out.
        placement: How the person is moved.

    Returns:
        (4,) in the picture, beyond its border perhaps.
    """
    placed = box.reshape(2, 2) * placement.factors + placement.offset
    return np.concatenate([placed.min(0), placed.max(0)])  # mirrored, the left edge becomes the right one


def place_joints(
    joints: np.ndarray, placement: Placement, flip_indices: Sequence[int] | None, height: int, width: int
) -> np.ndarray:
    """Where joints come to lie; one outside the picture is not labelled there.

    Args:
        joints: (K, 3) x, y and COCO's v, index coordinates where the person was cut out.
        placement: How the person is moved.
        flip_indices: For each joint the one it becomes in a mirror; needed where the placement is mirrored.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        (K, 3) in the picture; 0, 0, 0 where not labelled.
    """
    if placement.mirrored:
        joints = joints[list(flip_indices)]
    xy = (joints[:, :2] + 0.5) * placement.factors + placement.offset - 0.5
    inside = ((xy >= -0.5) & (xy < np.array([width, height]) - 0.5)).all(axis=1)
    placed = np.column_stack([xy, joints[:, 2]])
    return np.where((inside & (joints[:, 2] > 0))[:, None], placed, 0)


def place_pixels(
    image: np.ndarray, mask: np.ndarray, placement: Placement, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and a mask, moved together and resampled once, bilinearly.

    Args:
        image: (h, w, 3), where the person was cut out.
        mask: (h, w) bool, the person's pixels.
        placement: How the person is moved.
        height: Of the picture to paste into, pixels.
        width: Of the picture to paste into, pixels.

    Returns:
        tuple: (height, width, 3) of the image's type, and (height, width) bool: true where at least half of what a
        pixel is mixed from shows the person.
    """
    # edge = index + 0.5 on both sides.
    shift = 0.5 * placement.factors + placement.offset - 0.5
    matrix = np.column_stack([np.diag(placement.factors), shift])
    # Beyond the border the picture goes on, or people cut off by it would get a dark edge; the mask does not.
    pixels = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
    return pixels, share >= 0.5


def place_at_iou(
    box: np.ndarray,
    target: np.ndarray,
    iou: float,
    scale: float,
    mirrored: bool,
    direction: np.ndarray,
    height: int,
    width: int,
) -> Placement | None:
    """Move a box from the middle of another one along a direction until their IoU is the one asked for.

    What counts is the part of the moved box inside the picture, the box that it gets there. Leaving the picture that
    part shrinks, so the IoU need not fall all the way; it is continuous, which is all that bisection needs.

    Args:
        box: (4,) x1, y1, x2, y2 of the person, where it was cut out.
        target: (4,) of the other person, in the picture.
        iou: Wanted, 0 < iou < 1.
        scale: The person's, > 0.
        mirrored: Left and right exchanged.
        direction: (2,) unit vector.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        The placement; None where even the middle has a smaller IoU.
    """
    unplaced = Placement(scale, mirrored, np.zeros(2))
    moved = place_box(box, unplaced)
    to_middle = (target[:2] + target[2:] - moved[:2] - moved[2:]) / 2

    def at(way: float) -> Placement:
        return unplaced._replace(offset=to_middle + way * direction)

    def iou_at(way: float) -> float:
        return box_iou(clip_box(place_box(box, at(way)), height, width), target)

    if iou_at(0) < iou:
        return None
    near, far = 0.0, float(np.hypot(*(target[2:] - target[:2] + moved[2:] - moved[:2]))) / 2  # there they are apart
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        near, far = (middle, far) if iou_at(middle) >= iou else (near, middle)
    return at(near)


def corners(bbox: Sequence[float], height: int, width: int) -> np.ndarray:
    """A COCO box as corners, the part inside the picture.

    Args:
        bbox: x, y, width, height, edge coordinates.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        (4,) x1, y1, x2, y2; without an area where the box lies outside.
    """
    x, y, w, h = bbox
    return clip_box(np.array([x, y, x + w, y + h], float), height, width)


def clip_box(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part of a box inside the picture.

    Args:
        box: (4,) x1, y1, x2, y2.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        (4,) likewise; without an area where the box lies outside.
    """
    return np.clip(box, 0, [width, height, width, height])


def area_of(box: np.ndarray) -> float:
    """Area of a box.

    Args:
        box: (4,) x1, y1, x2, y2.

    Returns:
        float: Square pixels, 0 for one without an area.
    """
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes.

    Args:
        first: (4,) x1, y1, x2, y2.
        second: (4,) likewise.

    Returns:
        float: 0 to 1; 0 for two boxes without an area.
    """
    shared = area_of(np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])]))
    union = area_of(first) + area_of(second) - shared
    return shared / union if union else 0.0
