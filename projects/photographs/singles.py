"""Leeds Sports Pose Extended made ready: bystanders found, faces added, people cut out.

Each of its images has one labelled person with 12 of COCO's joints and no face. MoveNet's own detections say who else
is there: where it is sure, the joints it gives them become labels, elsewhere their boxes become regions that are not
supervised. Its detection of the labelled person gives the face.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from rnnpose_plugin.datasets.segmentation import to_segmentation
from rnnpose_plugin.models.movenet_decoding import FoundPeople, find_people
from rnnpose_plugin.models.movenet_network import MoveNet

from .cutout import cut_out, person_size

INPUT = 256  # pixels, the longer side as the network sees it
SEEN = 0.12  # score from which a detection is a person
SURE_JOINT = 0.3
SURE = 0.3  # score from which a bystander's sure joints are labels, if there are
LEAST_JOINTS = 6  # of them
BOX_SHARE = 0.53  # area of a person by its box
SAME = 0.18  # mean distance of the joints over the person's size, up to which a detection is the labelled person
GROWN = 0.1  # a bystander's box grows by this share on each side
FACE = slice(0, 5)


def detect(network: MoveNet, image: np.ndarray) -> FoundPeople:
    """MoveNet's people, in pixels of the image.

    Args:
        network (MoveNet): with its weights.
        image (np.ndarray): (h, w, 3) uint8 BGR.

    Returns:
        FoundPeople: those with a score of ``SEEN`` and more.
    """
    scale = INPUT / max(image.shape[:2])
    canvas = np.zeros((INPUT, INPUT, 3), np.uint8)
    small = cv2.resize(image, None, fx=scale, fy=scale)
    canvas[: small.shape[0], : small.shape[1]] = small[:INPUT, :INPUT]
    x = torch.from_numpy(canvas[:, :, ::-1].astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        found = find_people({name: maps[0] for name, maps in network(x).items()}, 20, 0.1)
    kept = found.scores >= SEEN
    people = FoundPeople(*(values[kept] for values in found))
    return people._replace(keypoints=people.keypoints / scale, boxes=people.boxes / scale)


def make_single(
    found: FoundPeople, image: np.ndarray, person: dict, with_mask: bool, with_others: bool = False
) -> list[dict] | None:
    """Annotations of one image.

    Args:
        found (FoundPeople): from :func:`detect`.
        image (np.ndarray): (h, w, 3) uint8 BGR.
        person (dict): the labelled person's annotation.
        with_mask (bool): whether they are cut out.
        with_others (bool): whether MoveNet's sure joints of bystanders become labels. Defaults to False: what is
            tested on has the labels of its source alone.

    Returns:
        list[dict], optional: annotations without ids, the person first; None for an image that is left out, because
        the person is not detected, or a detection may be the labelled person or another one.
    """
    joints = np.array(person['keypoints'], float).reshape(-1, 3)
    size = person_size(joints)
    labelled = joints[:, 2] > 0
    places = found.keypoints.numpy()
    apart = np.linalg.norm(places[:, labelled] - joints[labelled, :2], axis=2).mean(1) / size
    own, boxes = apart <= SAME, found.boxes.numpy()
    x, y, w, h = person['bbox']
    if any(_overlap(box, (x, y, x + w, y + h)) > 0.5 for box in boxes[~own]):
        return None
    if not own.any():
        return None
    best = np.flatnonzero(own)[apart[own].argmin()]
    sure = (found.keypoint_scores[best].numpy()[FACE] >= SURE_JOINT) & (joints[FACE, 2] == 0)
    joints[FACE][sure] = np.column_stack([places[best, FACE][sure], np.full(sure.sum(), 2)])
    mask = cut_out(image, joints) if with_mask else None
    sure = SURE if with_others else np.inf
    others = (_bystander(found, index, image.shape[:2], sure) for index in np.flatnonzero(~own))
    return [_labelled(person, joints, mask), *others]


def _labelled(person: dict, joints: np.ndarray, mask: np.ndarray | None) -> dict:
    entry = dict(person, keypoints=joints.round(1).ravel().tolist(), num_keypoints=int((joints[:, 2] > 0).sum()))
    seen = joints[joints[:, 2] > 0, :2]
    low, high = seen.min(0), seen.max(0)
    if mask is not None:
        rows, columns = np.nonzero(mask)
        low = np.minimum(low, [columns.min(), rows.min()])
        high = np.maximum(high, [columns.max() + 1, rows.max() + 1])
        entry.update(segmentation=to_segmentation(mask), area=int(mask.sum()))
    entry['bbox'] = np.concatenate([low, high - low]).round(1).tolist()
    return entry


def _bystander(found: FoundPeople, index: int, shape: tuple[int, int], least_score: float) -> dict:
    """A person with MoveNet's sure joints, or a crowd region; without a mask, so nothing is cut out."""
    places, scores = found.keypoints[index].numpy(), found.keypoint_scores[index].numpy()
    sure = (scores >= SURE_JOINT) & (places >= 0).all(1) & (places < np.array(shape[::-1])).all(1)
    if float(found.scores[index]) < least_score or sure.sum() < LEAST_JOINTS:
        return _region(found.boxes[index].numpy(), shape)
    joints = np.column_stack([places, np.full(len(places), 2)]) * sure[:, None]
    x1, y1, x2, y2 = np.clip(found.boxes[index].numpy(), 0, [*shape[::-1]] * 2).tolist()
    return dict(
        category_id=1,
        iscrowd=0,
        num_keypoints=int(sure.sum()),
        keypoints=joints.round(1).ravel().tolist(),
        bbox=[x1, y1, x2 - x1, y2 - y1],
        area=BOX_SHARE * (x2 - x1) * (y2 - y1),
    )


def _region(box: np.ndarray, shape: tuple[int, int]) -> dict:
    """A bystander, as a crowd region."""
    grow = GROWN * (box[2:] - box[:2])
    x1, y1 = np.clip(box[:2] - grow, 0, shape[::-1]).tolist()
    x2, y2 = np.clip(box[2:] + grow, 0, shape[::-1]).tolist()
    return dict(
        category_id=1,
        iscrowd=1,
        num_keypoints=0,
        keypoints=[0] * 51,
        bbox=[x1, y1, x2 - x1, y2 - y1],
        area=(x2 - x1) * (y2 - y1),
        segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
    )


def _overlap(box: np.ndarray, other: tuple[float, float, float, float]) -> float:
    """Share of the smaller box inside the larger one."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    areas = [np.prod(np.subtract(b[2:], b[:2])) for b in (box, other)]
    return float(np.prod(np.maximum(sides, 0)) / max(min(areas), 1))
