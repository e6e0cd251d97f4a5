"""Plain NumPy: a cut-out person, moved into another image to a given IoU of the boxes.

Boxes are (x1, y1, x2, y2) inside this package. Two frames, both in pixels: boxes and polygons are in *edge* coordinates
(the box 0, 0, 1, 1 is the first pixel), joints in *index* coordinates (the centre of the first pixel is 0, 0), as
everywhere in COCO; index = edge - 0.5.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np

BISECTIONS = 40  # halvings of a distance of some 1000 px: far below the resolution of float32 boxes


class Placement(NamedTuple):
    """A scaling, mirroring and shift: ``edge' = factors * edge + offset``.

    Args:
        scale: Size in the image over size in the donor's image, > 0.
        mirrored: Left and right exchanged.
        offset: (2,) x and y, edge coordinates of the image.
    """

    scale: float
    mirrored: bool
    offset: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """(2,) of x and y; x is negative where mirrored."""
        return np.array([-self.scale if self.mirrored else self.scale, self.scale])


def place_box(box: np.ndarray, placement: Placement) -> np.ndarray:
    """Move a box.

    Args:
        box: (4,) x1, y1, x2, y2, in the donor's image.
        placement: How the person is moved.

    Returns:
        (4,) in the image, possibly beyond its border.
    """
    placed = box.reshape(2, 2) * placement.factors + placement.offset
    return np.concatenate([placed.min(0), placed.max(0)])  # mirrored, the left edge becomes the right one


def place_joints(
    joints: np.ndarray, placement: Placement, flip_indices: Sequence[int] | None, size: tuple[int, int]
) -> np.ndarray:
    """Move joints; one outside the image loses its label.

    Args:
        joints: (K, 3) x, y and COCO's v, index coordinates of the donor's image.
        placement: How the person is moved.
        flip_indices: (K,) for each joint its index after mirroring; needed if the placement is mirrored.
        size: Height and width of the image, pixels.

    Returns:
        (K, 3) in the image; 0, 0, 0 where not labelled.
    """
    if placement.mirrored:
        joints = joints[list(flip_indices)]
    xy = (joints[:, :2] + 0.5) * placement.factors + placement.offset - 0.5
    inside = ((xy >= -0.5) & (xy < np.array(size[::-1]) - 0.5)).all(axis=1)
    placed = np.column_stack([xy, joints[:, 2]])
    return np.where((inside & (joints[:, 2] > 0))[:, None], placed, 0)


def place_pixels(
    image: np.ndarray, mask: np.ndarray, placement: Placement, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Move an image and a mask, resampled once, bilinearly.

    Args:
        image: (h, w, 3), the donor's image.
        mask: (h, w) bool, the person's pixels.
        placement: How the person is moved.
        size: Height and width of the image to paste into, pixels.

    Returns:
        tuple: (*size, 3) of the image's type, and (*size) bool: True where the person has a weight of at least 0.5 in
        the interpolated pixel.
    """
    # edge = index + 0.5 on both sides.
    shift = 0.5 * placement.factors + placement.offset - 0.5
    matrix = np.column_stack([np.diag(placement.factors), shift])
    # Colours are replicated beyond the border, or people cut off by it would get a dark edge; the mask is not.
    width_height = tuple(size[::-1])
    pixels = cv2.warpAffine(image, matrix, width_height, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(mask.astype(np.float32), matrix, width_height, flags=cv2.INTER_LINEAR)
    return pixels, weight >= 0.5


def place_at_iou(
    placement: Placement,
    box: np.ndarray,
    target: np.ndarray,
    iou: float,
    direction: np.ndarray,
    size: tuple[int, int],
) -> Placement | None:
    """Shift a box from the centre of another one along a direction until their IoU is ``iou``.

    The IoU is that of the part inside the image, which becomes the box. This part shrinks towards the border, so the
    IoU need not be monotonic; it is continuous, and bisection needs no more.

    Args:
        placement: Scale and mirroring; the offset is replaced.
        box: (4,) x1, y1, x2, y2 of the person in the donor's image.
        target: (4,) of the other person, in the image.
        iou: Wanted, 0 < iou < 1.
        direction: (2,) unit vector.
        size: Height and width of the image, pixels.

    Returns:
        The placement; None if the IoU is smaller even at the centre.
    """
    moved = place_box(box, placement._replace(offset=np.zeros(2)))
    to_centre = (target[:2] + target[2:] - moved[:2] - moved[2:]) / 2

    def at(distance: float) -> Placement:
        return placement._replace(offset=to_centre + distance * direction)

    def iou_at(distance: float) -> float:
        return box_iou(clip_box(place_box(box, at(distance)), size), target)

    if iou_at(0) < iou:
        return None
    near, far = 0.0, float(np.hypot(*(target[2:] - target[:2] + moved[2:] - moved[:2]))) / 2  # disjoint at `far`
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        near, far = (middle, far) if iou_at(middle) >= iou else (near, middle)
    return at(near)


def corners(bbox: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """A COCO box as corners, clipped to the image.

    Args:
        bbox: x, y, width, height, edge coordinates.
        size: Height and width of the image, pixels.

    Returns:
        (4,) x1, y1, x2, y2; with area 0 if the box lies outside.
    """
    x, y, w, h = bbox
    return clip_box(np.array([x, y, x + w, y + h], float), size)


def clip_box(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of a box inside the image.

    Args:
        box: (4,) x1, y1, x2, y2.
        size: Height and width of the image, pixels.

    Returns:
        (4,) likewise; with area 0 if the box lies outside.
    """
    height, width = size
    return np.clip(box, 0, [width, height, width, height])


def area_of(box: np.ndarray) -> float:
    """Area of a box.

    Args:
        box: (4,) x1, y1, x2, y2.

    Returns:
        float: Square pixels, 0 for an empty box.
    """
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes.

    Args:
        first: (4,) x1, y1, x2, y2.
        second: (4,) likewise.

    Returns:
        float: 0 to 1; 0 for two empty boxes.
    """
    shared = area_of(np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])]))
    union = area_of(first) + area_of(second) - shared
    return shared / union if union else 0.0
