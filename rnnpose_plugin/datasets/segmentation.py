"""COCO segmentations: polygons, compressed and uncompressed RLEs, and pixels."""

from __future__ import annotations

import numpy as np
import xtcocotools.mask as coco_mask

# Far beyond the pixels of any image; the C code of the masks allocates memory in proportion.
LARGEST = 1e6


def are_numbers(values: object) -> bool:
    """Whether this is a list of pixel coordinates, without None, NaN or values beyond any image.

    Args:
        values: A value of a JSON file.

    Returns:
        bool: True for an empty list too.
    """
    return isinstance(values, (list, tuple)) and all(
        isinstance(value, (int, float)) and abs(value) < LARGEST for value in values
    )


def usable_segmentation(segmentation: list | dict | None) -> list | dict:
    """The part of a segmentation that masks can be made of.

    Args:
        segmentation: A value of a JSON file.

    Returns:
        An RLE as it is, or the polygons of at least three points within 1e6 pixels; [] if there is none.
    """
    if isinstance(segmentation, dict):
        return segmentation
    # Two points have no area, and the C code would read four numbers as a box.
    polygons = segmentation if isinstance(segmentation, list) else []
    return [polygon for polygon in polygons if are_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0]


def to_rle(segmentation: list | dict | None, size: tuple[int, int]) -> dict | None:
    """A COCO segmentation as one compressed RLE.

    Args:
        segmentation: Polygons, a compressed or an uncompressed RLE, or None.
        size: Height and width of the image, pixels.

    Returns:
        The RLE; None without a segmentation, or if it has another size or is malformed.
    """
    height, width = size
    if isinstance(segmentation, dict):
        own_size, counts = segmentation.get('size'), segmentation.get('counts')
        if own_size not in ([height, width], (height, width)) or not isinstance(counts, (list, str, bytes)):
            return None
        runs = counts if isinstance(counts, list) else run_lengths(counts)
        # The C code does not check the counts and would write past its buffer.
        fit = all(type(run) is int and run >= 0 for run in runs) and sum(runs) == height * width
        if not fit:
            return None
        return coco_mask.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
    polygons = usable_segmentation(segmentation)
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else None


def run_lengths(counts: str | bytes) -> list[int]:
    """Decode the counts of a compressed RLE: five bits a character, differences from the third count on.

    Args:
        counts: Of a compressed RLE.

    Returns:
        Numbers of pixels outside and inside in turns; for malformed text their sum is not that of the pixels.
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


def to_mask(segmentation: list | dict | None, size: tuple[int, int]) -> np.ndarray | None:
    """A COCO segmentation as a mask.

    Args:
        segmentation: Polygons, a compressed or an uncompressed RLE, or None.
        size: Height and width of the image, pixels.

    Returns:
        (height, width) bool; None where :func:`to_rle` returns None.
    """
    rle = to_rle(segmentation, size)
    return None if rle is None else coco_mask.decode(rle).astype(bool)


def to_segmentation(mask: np.ndarray) -> dict:
    """A mask as a compressed RLE for JSON.

    Args:
        mask: (height, width) bool.

    Returns:
        dict: ``size`` [height, width] and ``counts`` (str).
    """
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode('ascii'))


def to_run_lists(segmentation: list | dict | None, size: tuple[int, int]) -> list | dict | None:
    """An RLE in the only form that MMPose's ``BottomupGetHeatmapMask`` reads: uncompressed, in a list.

    Args:
        segmentation: Polygons, a compressed or an uncompressed RLE, or None.
        size: Height and width of the image, pixels.

    Returns:
        list: one dict with ``size`` and ``counts`` (list[int]); anything but an RLE of this size is returned unchanged.
    """
    rle = to_rle(segmentation, size) if isinstance(segmentation, dict) else None
    return segmentation if rle is None else [dict(size=list(size), counts=run_lengths(rle['counts']))]
