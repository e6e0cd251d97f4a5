"""Several photographs side by side in one: more people per image than the small sets have."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 352  # pixels; training looks at 256
GRIDS = ((1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (2, 2), (2, 3), (3, 2))
LEAST_JOINTS = 3  # a person with fewer left in a tile is not supervised
ZOOM = (0.9, 1.6)  # over the size at which the image just covers its tile


def cut_lines(parts: int, random: np.random.RandomState) -> list[int]:
    """Where the tiles end, no tile much narrower than others.

    Args:
        parts (int): number of tiles.
        random (np.random.RandomState): where chance comes from.

    Returns:
        list[int]: parts + 1 pixels, from 0 to ``SIDE``.
    """
    widths = random.uniform(0.7, 1.3, parts)
    return [0, *np.round(SIDE * np.cumsum(widths) / widths.sum()).astype(int).tolist()]


def tile(
    image: np.ndarray, people: list[dict], size: tuple[int, int], random: np.random.RandomState
) -> tuple[np.ndarray, list[dict]]:
    """A random cut of one photograph around one of its people.

    Args:
        image (np.ndarray): (h, w, 3) uint8.
        people (list[dict]): COCO annotations.
        size (tuple[int, int]): width and height of the tile, pixels.
        random (np.random.RandomState): where chance comes from.

    Returns:
        tuple[np.ndarray, list[dict]]: the tile, and its people in the tile's pixels; those cut off wholly are left
        out.
    """
    labelled = [person for person in people if person['num_keypoints'] > 0]
    x, y, w, h = labelled[random.randint(len(labelled))]['bbox']
    height, width = image.shape[:2]
    scale = max(size[0] / width, size[1] / height) * random.uniform(*ZOOM)
    # A small person is brought closer, but not beyond what resampling bears.
    scale = max(scale, min(0.55 * min(size) / max(w, h, 1), 2.0, 3 * scale))
    jitter = random.uniform(-0.15, 0.15, 2) * size
    offset = np.array(size) / 2 + jitter - scale * np.array([x + w / 2, y + h / 2])
    # The tile shows the image only, as far as that covers it.
    least = np.array(size) - scale * np.array([width, height])
    offset = np.where(least <= 0, np.clip(offset, least, 0), least / 2)
    matrix = np.array([[scale, 0, offset[0] + 0.5 * scale - 0.5], [0, scale, offset[1] + 0.5 * scale - 0.5]])
    pixels = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_CONSTANT, borderValue=(114, 114, 114))  # fmt: skip
    moved = [move(person, scale, offset, size) for person in people]
    return pixels, [person for person in moved if person is not None]


def move(person: dict, scale: float, offset: np.ndarray, size: tuple[int, int]) -> dict | None:
    """A person in the pixels of a tile.

    Args:
        person (dict): COCO annotation.
        scale (float): of the image.
        offset (np.ndarray): (2,) pixels of the tile, edge coordinates.
        size (tuple[int, int]): width and height of the tile, pixels.

    Returns:
        dict, optional: a new annotation with its box as its segmentation, a crowd region for a person with too few
        joints; None for a person outside.
    """
    joints = np.array(person['keypoints'], float).reshape(-1, 3)
    joints[:, :2] = scale * (joints[:, :2] + 0.5) + offset - 0.5
    inside = ((joints[:, :2] >= -0.5) & (joints[:, :2] < np.array(size) - 0.5)).all(1) & (joints[:, 2] > 0)
    inside &= inside.sum() >= LEAST_JOINTS
    joints = np.where(inside[:, None], joints, 0)
    box = np.array(person['bbox'], float)
    low, high = (np.clip(scale * corner + offset, 0, size) for corner in (box[:2], box[:2] + box[2:]))
    w, h = (high - low).tolist()
    if w < 2 or h < 2:
        return None
    (x1, y1), (x2, y2) = low.round(1).tolist(), high.round(1).tolist()
    return dict(
        category_id=1,
        iscrowd=int(not inside.any()),
        keypoints=joints.round(1).ravel().tolist(),
        num_keypoints=int(inside.sum()),
        bbox=[x1, y1, w, h],
        area=0.53 * w * h,
        segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
    )


def make_mosaic(sources: list, read, random: np.random.RandomState) -> tuple[np.ndarray, list[dict]]:
    """One mosaic.

    Args:
        sources (list): images, each a path and COCO annotations.
        read (Callable): reads a path as (h, w, 3) uint8 BGR.
        random (np.random.RandomState): where chance comes from.

    Returns:
        tuple[np.ndarray, list[dict]]: (SIDE, SIDE, 3), and annotations without ids.
    """
    rows, columns = GRIDS[random.randint(len(GRIDS))]
    across, down = cut_lines(columns, random), cut_lines(rows, random)
    canvas, everyone = np.zeros((SIDE, SIDE, 3), np.uint8), []
    for top, bottom in zip(down, down[1:]):
        for left, right in zip(across, across[1:]):
            path, people = sources[random.randint(len(sources))]
            pixels, moved = tile(read(path), people, (right - left, bottom - top), random)
            canvas[top:bottom, left:right] = pixels
            everyone += [shift(person, left, top) for person in moved]
    return canvas, everyone


def shift(person: dict, left: int, top: int) -> dict:
    """A person of a tile in the pixels of the mosaic.

    Args:
        person (dict): as :func:`move` gives it.
        left (int): pixels.
        top (int): pixels.

    Returns:
        dict: a new annotation.
    """
    joints = np.array(person['keypoints'], float).reshape(-1, 3)
    joints[joints[:, 2] > 0, :2] += [left, top]
    x, y, w, h = person['bbox']
    outline = (np.array(person['segmentation'][0]).reshape(-1, 2) + [left, top]).ravel().tolist()
    return dict(person, keypoints=joints.ravel().tolist(), bbox=[x + left, y + top, w, h], segmentation=[outline])
