"""COCO segmentations: polygons, compressed and uncompressed RLEs, and pixels."""

from __future__ import annotations

import numpy as np
import xtcocotools.mask as coco_mask

# Far beyond any picture's pixels; the C code of the masks takes memory in proportion.
LARGEST = 1e6


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
