"""A person's pixels from joints alone: GrabCut (Rother et al., 2004), begun with the limbs and the box."""

from __future__ import annotations

import cv2
import numpy as np

# Pairs of COCO joints that have body between them.
LIMBS = (
    *((5, 6), (5, 11), (6, 12), (11, 12), (5, 12), (6, 11)),
    *((5, 7), (7, 9), (6, 8), (8, 10)),
    *((11, 13), (13, 15), (12, 14), (14, 16)),
)
TORSO = (5, 6, 12, 11)
SURE = 0.06  # thickness of what is surely body, over the person's size
LIKELY = 0.22
ROUNDS = 3
AREA_SHARE = (0.12, 0.85)  # of the box around the likely region: less or more is a failure


def person_size(joints: np.ndarray) -> float:
    """A length that bending changes little.

    Args:
        joints (np.ndarray): (17, 3) x, y, v; those with v 0 are left out.

    Returns:
        float: pixels, the longer side of the joints' box, and no less than twice the torso.
    """
    seen = joints[joints[:, 2] > 0, :2]
    torso = [np.hypot(*(joints[a, :2] - joints[b, :2])) for a, b in ((5, 11), (6, 12)) if joints[[a, b], 2].all()]
    return float(max(np.ptp(seen, axis=0).max(), 2 * max(torso, default=0)))


def drawn_body(joints: np.ndarray, shape: tuple[int, int], thickness: float) -> np.ndarray:
    """Limbs, torso and head as thick lines.

    Args:
        joints (np.ndarray): (17, 3) x, y, v.
        shape (tuple[int, int]): height and width, pixels.
        thickness (float): pixels.

    Returns:
        np.ndarray: (height, width) bool.
    """
    canvas, width = np.zeros(shape, np.uint8), max(1, round(thickness))
    points = np.round(joints[:, :2]).astype(int)
    for a, b in LIMBS:
        if joints[a, 2] and joints[b, 2]:
            cv2.line(canvas, points[a].tolist(), points[b].tolist(), 1, width)
    if joints[list(TORSO), 2].all():
        cv2.fillConvexPoly(canvas, cv2.convexHull(points[list(TORSO)]), 1)
    head = _head(joints)
    if head is not None:
        cv2.circle(canvas, np.round(head).astype(int).tolist(), width, 1, -1)
    return canvas.astype(bool)


def _head(joints: np.ndarray) -> np.ndarray | None:
    face = joints[:5][joints[:5, 2] > 0, :2]
    if len(face):
        return face.mean(0)
    if not joints[list(TORSO), 2].all():
        return None
    shoulders, hips = joints[[5, 6], :2].mean(0), joints[[11, 12], :2].mean(0)
    return shoulders + 0.45 * (shoulders - hips)


def cut_out(image: np.ndarray, joints: np.ndarray) -> np.ndarray | None:
    """The mask of one person.

    Args:
        image (np.ndarray): (height, width, 3) uint8 BGR.
        joints (np.ndarray): (17, 3) x, y, v.

    Returns:
        np.ndarray, optional: (height, width) bool; None where it failed.
    """
    size = person_size(joints)
    sure, likely = (drawn_body(joints, image.shape[:2], share * size) for share in (SURE, LIKELY))
    if not sure.any() or likely.all():
        return None
    labels = np.where(sure, cv2.GC_FGD, np.where(likely, cv2.GC_PR_FGD, cv2.GC_BGD)).astype(np.uint8)
    # A thin rim of what is likely body is as likely not.
    inner = cv2.erode(likely.astype(np.uint8), np.ones((3, 3)), iterations=max(1, round(0.05 * size)))
    labels[likely & ~inner.astype(bool) & ~sure] = cv2.GC_PR_BGD
    cv2.setRNGSeed(0)  # its clusters begin at random
    try:
        cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return None
    mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    mask = _largest(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))))
    rows, columns = np.nonzero(likely)
    share = mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1)
    return mask if AREA_SHARE[0] <= share <= AREA_SHARE[1] else None


def _largest(mask: np.ndarray) -> np.ndarray:
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask)
    return parts == 1 + facts[1:, cv2.CC_STAT_AREA].argmax() if count > 1 else mask.astype(bool)
