"""COCO's AP by crowding (alone, touching, overlapping people), counts of people, and agreement of poses with the truth.

The comparison of two models (``projects/compare``) reports them; of the package, only MixingMetric uses a part.
They are here because they extend the COCO evaluation and hold for any bottom-up model.

Plain numpy and pycocotools on COCO's own records: ``truth`` is the content of an annotation file, ``detections`` are
the results that COCO's ``loadRes`` reads, each with ``image_id``, ``category_id``, ``keypoints`` (3 * K numbers) and
``score``.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from .truth import clean_truth, is_person

# A person's crowding is the highest IoU of its box with another person's box in the image. A band includes its upper
# end. OCHuman's "moderate" and "hard" are the last two.
BAND_ENDS = (0.3, 0.5, 0.75, 1.0)
BANDS = ('0-0.3', '0.3-0.5', '0.5-0.75', '0.75-1')
FIGURES = ('AP', 'AP50', 'AP75', 'AP(M)', 'AP(L)', 'AR', 'AR50', 'AR75', 'AR(M)', 'AR(L)')


def read_truth(path: str, image_ids: Iterable[int], use_area: bool = True) -> dict:
    """The part of an annotation file for some images.

    Args:
        path (str): COCO's JSON.
        image_ids (Iterable[int]): of the images.
        use_area (bool): as in CocoMetric. Defaults to True.

    Returns:
        dict: from :func:`~rnnpose_plugin.evaluation.truth.clean_truth`. People without ``keypoints`` crowd others.
    """
    content = json.loads(Path(path).read_text(encoding='utf-8'))
    truth = clean_truth(content, set(image_ids), use_area)
    crowdpose = all('crowdIndex' in image for image in truth['images'])
    # pycocotools ignores people by this field alone, xtcocotools by their joints, but for CrowdPose
    for person in [] if crowdpose else truth['annotations']:
        person['num_keypoints'] = sum(v > 0 for v in person['keypoints'][2::3])
    return truth


def highest_ious(boxes: np.ndarray) -> np.ndarray:
    """The highest IoU of each box with another box.

    Args:
        boxes (np.ndarray): (n, 4), x, y, width, height in pixels.

    Returns:
        np.ndarray: (n,), IoU in [0, 1]; 0 for a single box.
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    boxes = np.asarray(boxes, dtype=np.float64)
    ious = np.array(mask.iou(boxes, boxes, [0] * len(boxes)))
    np.fill_diagonal(ious, 0)
    return ious.max(axis=1)


def crowding(truth: dict) -> dict[int, float]:
    """The crowding of each person. Crowd regions are not people; people without a labelled joint crowd others.

    Args:
        truth (dict): see above.

    Returns:
        dict[int, float]: the highest IoU of a person's box with another person's box in the image, by annotation id,
        for people to detect (:func:`is_person`).
    """
    ious = {}
    for group in people_by_image(truth, counted=False).values():
        highest = highest_ious(np.array([person['bbox'] for person in group]))
        ious.update((person['id'], float(iou)) for person, iou in zip(group, highest) if is_person(person))
    return ious


def band_of(iou: float) -> int:
    """The band of a person.

    Args:
        iou (float): from :func:`crowding`.

    Returns:
        int: index into ``BANDS``.
    """
    return int(np.searchsorted(BAND_ENDS[:-1], iou, side='left'))


def people_by_image(truth: dict, counted: bool = True) -> dict[int, list[dict]]:
    """The people of each image that has any.

    Args:
        truth (dict): see above.
        counted (bool): leave out people without a labelled joint. Defaults to True.

    Returns:
        dict[int, list[dict]]: annotations by image id; crowd regions are left out.
    """
    groups = defaultdict(list)
    for annotation in truth['annotations']:
        if is_person(annotation) if counted else not annotation.get('iscrowd', 0):
            groups[annotation['image_id']].append(annotation)
    return dict(groups)


def coco_figures(
    truth: dict, detections: Sequence[dict], sigmas: Sequence[float], image_ids: Sequence[int] | None = None
) -> dict[str, float | None]:
    """COCO's ten figures by pycocotools.

    Args:
        truth (dict): see above.
        detections (Sequence[dict]): see above; there may be none.
        sigmas (Sequence[float]): K, of the OKS.
        image_ids (Sequence[int], optional): only these images. Defaults to None, all of them.

    Returns:
        dict[str, float | None]: ``FIGURES`` in [0, 1]; None without people to detect.
    """
    with redirect_stdout(io.StringIO()):
        # COCOeval takes id 0 for "unmatched".
        people = [dict(annotation, id=i) for i, annotation in enumerate(truth['annotations'], start=1)]
        coco = _as_coco(dict(truth, annotations=people))
        # loadRes cannot read an empty list.
        empty = dict(truth, annotations=[])
        found = coco.loadRes([dict(d) for d in detections]) if detections else _as_coco(empty)
        evaluation = COCOeval(coco, found, 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        if image_ids is not None:
            evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if value < 0 else float(value) for name, value in zip(FIGURES, evaluation.stats)}


def figures_by_band(truth: dict, detections: Sequence[dict], sigmas: Sequence[float]) -> list[dict]:
    """AP and AR of the people of each band.

    People of other bands are ignored, as COCO ignores crowd regions: a pose that matches one of them is neither a true
    nor a false positive (the band's own people are matched first). An unmatched pose is a false positive of each band
    with a person in the image; images without one are not evaluated.

    Args:
        truth (dict): see above.
        detections (Sequence[dict]): see above.
        sigmas (Sequence[float]): K, of the OKS.

    Returns:
        list[dict]: for each of ``BANDS`` its name as ``band``, the numbers of its ``people`` and of their images
        (``pictures``), ``AP``, ``AP50``, ``AP75`` and ``AR``, None without people.
    """
    bands = {person: band_of(iou) for person, iou in crowding(truth).items()}
    rows = []
    for index, name in enumerate(BANDS):
        inside = [a for a in truth['annotations'] if bands.get(a['id']) == index]
        images = {person['image_id'] for person in inside}
        # COCOeval ignores people with num_keypoints 0, but computes their OKS from all joints.
        others = dict(num_keypoints=0)
        annotations = [a if bands.get(a['id']) == index else {**a, **others} for a in truth['annotations']]
        figures = coco_figures(dict(truth, annotations=annotations), detections, sigmas, list(images))
        kept = {key: figures[key] for key in ('AP', 'AP50', 'AP75', 'AR')}
        rows.append(dict(band=name, people=len(inside), pictures=len(images), **kept))
    return rows


def count_confusion(true: Sequence[int], found: Sequence[int]) -> np.ndarray:
    """Confusion matrix of the number of people.

    Args:
        true (Sequence[int]): people of each image.
        found (Sequence[int]): poses of each image.

    Returns:
        np.ndarray: (highest true + 1, highest found + 1), numbers of images.
    """
    matrix = np.zeros((max(true, default=0) + 1, max(found, default=0) + 1), dtype=int)
    np.add.at(matrix, (np.asarray(true, dtype=int), np.asarray(found, dtype=int)), 1)
    return matrix


def best_count_threshold(true: Sequence[int], scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The score threshold for which the number of poses is right in the most images.

    Args:
        true (Sequence[int]): people of each image.
        scores (Sequence[Sequence[float]]): of the poses of each image.

    Returns:
        tuple[float, float]: the lowest such threshold, 0 to keep all poses, above all scores to keep none; and the
        share of images with the right number.
    """
    # An image is right for thresholds above its score number n + 1 and up to its score number n.
    ranked = [sorted(of_image, reverse=True) for of_image in scores]
    pairs = [(n, of_image) for n, of_image in zip(true, ranked) if len(of_image) >= n]
    lows = np.array([of_image[n] if len(of_image) > n else -np.inf for n, of_image in pairs])
    highs = np.array([of_image[n - 1] if n else np.inf for n, of_image in pairs])
    levels = sorted({score for of_image in ranked for score in of_image})
    # Above all scores, but finite, as JSON has no infinity.
    thresholds = [0.0, *levels, levels[-1] + 1 if levels else 1.0]
    right = [int(((lows < t) & (t <= highs)).sum()) for t in thresholds]
    best = int(np.argmax(right))
    return float(thresholds[best]), right[best] / len(true)


def joint_oks(people: Sequence[dict], poses: Sequence[dict], sigmas: Sequence[float]) -> np.ndarray:
    """The terms of COCO's object keypoint similarity: of each joint of all people with all poses.

    Args:
        people (Sequence[dict]): annotations of an image.
        poses (Sequence[dict]): its detections.
        sigmas (Sequence[float]): K.

    Returns:
        np.ndarray: (people, poses, K), in [0, 1]; 0 at joints that are not labelled.
    """
    K = len(sigmas)
    true = np.array([person['keypoints'] for person in people], dtype=np.float64).reshape(-1, 1, K, 3)
    found = np.array([pose['keypoints'] for pose in poses], dtype=np.float64).reshape(1, -1, K, 3)
    areas = np.array([person['area'] for person in people], dtype=np.float64).reshape(-1, 1, 1)
    squares = ((true[..., :2] - found[..., :2]) ** 2).sum(axis=-1)
    errors = squares / (2 * np.asarray(sigmas)) ** 2 / (areas + np.spacing(1)) / 2
    return np.exp(-errors) * (true[..., 2] > 0)


def oks_matrix(people: Sequence[dict], poses: Sequence[dict], sigmas: Sequence[float]) -> np.ndarray:
    """COCO's object keypoint similarity of all people with all poses.

    Args:
        people (Sequence[dict]): annotations of an image, each with a labelled joint.
        poses (Sequence[dict]): its detections.
        sigmas (Sequence[float]): K.

    Returns:
        np.ndarray: (people, poses), in [0, 1].
    """
    labelled = np.array([np.count_nonzero(np.array(person['keypoints'][2::3]) > 0) for person in people])
    return joint_oks(people, poses, sigmas).sum(axis=-1) / labelled[:, None]


def agreement(people: Sequence[dict], poses: Sequence[dict], sigmas: Sequence[float]) -> tuple[float, dict[int, int]]:
    """Agreement of the poses of an image with its people: the OKS of the best pairs, less 1 for each surplus pose.

    Args:
        people (Sequence[dict]): annotations of the image, each with a labelled joint.
        poses (Sequence[dict]): its detections.
        sigmas (Sequence[float]): K.

    Returns:
        tuple[float, dict[int, int]]: the sum, at most the number of people; and the person of each pose that has one.
    """
    surplus = max(0, len(poses) - len(people))
    if not people or not poses:
        return float(-surplus), {}
    oks = oks_matrix(people, poses, sigmas)
    rows, columns = linear_sum_assignment(oks, maximize=True)
    return float(oks[rows, columns].sum() - surplus), dict(zip(columns.tolist(), rows.tolist()))


def _as_coco(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco
