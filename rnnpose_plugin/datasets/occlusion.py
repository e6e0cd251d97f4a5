"""Plain NumPy: one person, cut out along their mask, put in front of the people of a picture.

People are COCO annotations (dicts), boxes inside this file (x1, y1, x2, y2). Two frames, both in pixels: boxes and
polygons are in *edge* coordinates (the box 0, 0, 1, 1 is the first pixel), joints in *index* coordinates (the centre of
the first pixel is 0, 0), as everywhere in COCO; index = edge - 0.5.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np
import xtcocotools.mask as coco_mask

# Far beyond any picture's pixels; the C code of the masks takes memory in proportion.
LARGEST = 1e6
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


def are_numbers(values: object) -> bool:
    """Whether this is a list of pixels, without None, NaN or what no picture can have.

    Args:
        values: Anything that JSON can hold.

    Returns:
        bool: True for an empty list, too.
    """
    return isinstance(values, (list, tuple)) and all(
        isinstance(value, (int, float)) and abs(value) < LARGEST for value in values
    )


def to_rle(segmentation: list | dict | None, height: int, width: int) -> dict | None:
    """A COCO segmentation as one compressed RLE.

    Args:
        segmentation: Polygons, a compressed or an uncompressed RLE, or None.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        The RLE; None without a segmentation, and for one that is not of this picture's size or no outline at all.
    """
    if isinstance(segmentation, dict):
        size, counts = segmentation.get('size'), segmentation.get('counts')
        if size not in ([height, width], (height, width)) or not isinstance(counts, (list, str, bytes)):
            return None
        runs = counts if isinstance(counts, list) else run_lengths(counts)
        # The C code trusts the counts and would write past its buffer.
        fit = all(isinstance(run, int) and run >= 0 for run in runs) and sum(runs) == height * width
        if not fit:
            return None
        return coco_mask.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
    # Two points are no area, and the C code would take four numbers for a box.
    polygons = segmentation if isinstance(segmentation, list) else []
    polygons = [polygon for polygon in polygons if are_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0]
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else None


def run_lengths(counts: str | bytes) -> list[int]:
    """The numbers in a compressed RLE, in COCO's encoding: five bits a character, differences from the third on.

    Args:
        counts: Of a compressed RLE.

    Returns:
        Pixels outside and inside in turns; what is no such text gives numbers that do not add up.
    """
    runs, number, shift = [], 0, 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - 48
        number |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:  # the last character of this number
            number -= (1 << shift) if bits & 0x10 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number, shift = 0, 0
    return runs


def to_mask(segmentation: list | dict | None, height: int, width: int) -> np.ndarray | None:
    """The pixels of a COCO segmentation.

    Args:
        segmentation: Polygons, a compressed or an uncompressed RLE, or None.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        (height, width) bool; None where :func:`to_rle` finds no mask.
    """
    rle = to_rle(segmentation, height, width)
    return None if rle is None else coco_mask.decode(rle).astype(bool)


def to_segmentation(mask: np.ndarray) -> dict:
    """Pixels as a compressed RLE that JSON can hold.

    Args:
        mask: (height, width) bool.

    Returns:
        dict: ``size`` [height, width] and ``counts``, text.
    """
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode('ascii'))


def to_run_lists(segmentation: list | dict | None, height: int, width: int) -> list | dict | None:
    """An RLE in the one form that the toolbox's ``BottomupGetHeatmapMask`` reads: uncompressed, in a list.

    Args:
        segmentation: Polygons, a compressed or an uncompressed RLE, or None.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        list: of one dict with ``size`` and ``counts``, numbers; what is no RLE of this picture comes back as it is.
    """
    rle = to_rle(segmentation, height, width) if isinstance(segmentation, dict) else None
    return segmentation if rle is None else [dict(size=[height, width], counts=run_lengths(rle['counts']))]


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
