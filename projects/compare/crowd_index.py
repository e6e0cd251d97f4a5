"""AP by CrowdPose's crowd index of an image: how many joints of other people lie in a person's box.

Plain numpy and pycocotools on COCO's own records, as ``rnnpose_plugin/evaluation/crowding.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnnpose_plugin.coco_api import CROWD_TYPES
from rnnpose_plugin.evaluation.crowding import coco_figures, people_by_image


def crowd_index(people: Sequence[dict]) -> float:
    """The crowd index by CrowdPose's definition: labelled joints of others in a person's box per labelled joint of its
    own, as a mean over the people.

    Args:
        people (Sequence[dict]): annotations of an image, each with a labelled joint.

    Returns:
        float: 0 without people; above 1 if boxes hold more joints of others than own ones.
    """
    if not people:
        return 0.0
    joints = [np.array(person['keypoints'], dtype=np.float64).reshape(-1, 3) for person in people]
    labelled = [of_person[of_person[:, 2] > 0, :2] for of_person in joints]
    everyone = np.concatenate(labelled)
    ratios = []
    for person, own in zip(people, labelled):
        corner, size = np.split(np.array(person['bbox'], dtype=np.float64), 2)
        inside, of_own = (((xy >= corner) & (xy <= corner + size)).all(axis=1).sum() for xy in (everyone, own))
        ratios.append((inside - of_own) / len(own))
    return float(np.mean(ratios))


def figures_by_crowd_index(truth: dict, detections: Sequence[dict], sigmas: Sequence[float]) -> list[dict]:
    """AP of the easy, medium and hard images.

    The paper on CrowdPose names the ends 0.1 and 0.8. Its authors' evaluation code and xtcocotools take 0.2 and 0.8,
    as figures in the literature do, and so does this.

    Args:
        truth (dict): content of an annotation file. The ``crowdIndex`` of its images counts, or, if one has none,
            :func:`crowd_index` of all.
        detections (Sequence[dict]): results in COCO's format.
        sigmas (Sequence[float]): K, of the OKS.

    Returns:
        list[dict]: for each of ``CROWD_TYPES`` its name as ``type``, the number of ``images``, and ``AP``, None without
        people.
    """
    people = people_by_image(truth)
    index = {image['id']: image.get('crowdIndex') for image in truth['images']}
    if None in index.values():
        index = {image: crowd_index(people.get(image, ())) for image in index}
    rows = []
    for name, (low, high) in CROWD_TYPES.items():
        images = [image for image, value in index.items() if low <= value < high]
        rows.append(dict(type=name, images=len(images), AP=coco_figures(truth, detections, sigmas, images)['AP']))
    return rows
