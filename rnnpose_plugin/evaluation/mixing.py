"""Joints on the wrong person, and joints that others cover: what AP hides where people overlap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmpose.registry import METRICS
from scipy.optimize import linear_sum_assignment

from .coco_metric import FAR
from .crowding import coco_figures, joint_oks, people_by_image
from .truth import annotations_of, clean_truth, is_person

WELL = 0.85  # OKS of one joint, above which it lies well
DUPLICATE = 0.5  # OKS, COCO's lowest threshold
VISIBILITY = dict(visible=2, covered=1)  # COCO's flags


@METRICS.register_module()
class MixingMetric(BaseMetric):
    """How often people are mixed up, and how well covered joints are found.

    People and poses of an image are paired so that the sum of their OKS is highest (Hungarian algorithm); a person
    with a pose is *found*. Its labelled joint is *well placed* if the OKS of this joint alone is above 0.85, and
    *mixed* if it is not, but lies that well on the same joint of another person. Every pose counts, however low its
    score, as in AP. Crowd regions are not people, and people annotated with other joints than the data set's (which
    CocoMetric converts by ``gt_converter``) are left out.

    Args:
        **kwargs: those of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'mixing'

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the annotations and the poses of a batch.

        Args:
            data_batch (dict): unused.
            data_samples (Sequence[dict]): with ``img_id``, ``pred_instances`` and the annotations ``raw_ann_info``.
        """
        numbers = 3 * len(self.dataset_meta['sigmas'])
        for sample in data_samples:
            people = [a for a in annotations_of(sample) if len(a.get('keypoints') or ()) == numbers]
            poses = sample['pred_instances']
            keypoints = np.asarray(poses['keypoints'], dtype=np.float64)
            keypoints = np.nan_to_num(keypoints, nan=FAR, posinf=FAR, neginf=FAR)
            scores = np.nan_to_num(np.asarray(poses.get('bbox_scores', np.ones(len(keypoints))), dtype=np.float64))
            self.results.append((sample['img_id'], people, keypoints, scores))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """See :func:`mixing_figures`.

        Args:
            results (list[tuple]): image id, annotations, keypoints (n, K, 2) and scores (n,) of each image.

        Returns:
            dict[str, float]: the figures, -1 where there is nothing to judge.
        """
        images = {image: of_image for image, *of_image in results}  # each once
        annotations = [a for of_image, _, _ in images.values() for a in of_image]
        truth = clean_truth(dict(images=[dict(id=image) for image in images], annotations=annotations))
        detections = [
            dict(image_id=image, category_id=1, score=float(score), keypoints=np.insert(pose, 2, 1, axis=1).ravel())
            for image, (_, keypoints, scores) in images.items()
            for pose, score in zip(keypoints, scores)
        ]
        figures = mixing_figures(truth, detections, self.dataset_meta['sigmas'])
        return {name: -1.0 if value is None else value for name, value in figures.items()}


def mixing_figures(truth: dict, detections: Sequence[dict], sigmas: Sequence[float]) -> dict[str, float | None]:
    """The figures of :class:`MixingMetric`.

    Args:
        truth (dict): from ``clean_truth``.
        detections (Sequence[dict]): as COCO's ``loadRes`` reads them.
        sigmas (Sequence[float]): K, of the OKS.

    Returns:
        dict[str, float | None]: ``visible_well`` and ``visible_mixed``, shares of the visible joints of found people
        that are well placed and mixed; ``covered_well`` and ``covered_mixed``, of the joints that are labelled, but not
        visible; ``covered_OKS``, the mean over found people of the OKS of their covered joints alone; ``covered_AP``,
        COCO's AP by these joints, in which people without one are ignored; and ``duplicates``, per person. None where
        there is nothing to judge.
    """
    poses = defaultdict(list)
    for detection in detections:
        poses[detection['image_id']].append(detection)
    people = people_by_image(truth)
    judged = [judge_image(of_image, poses[image], sigmas) for image, of_image in people.items()]
    joints = np.array([joint for rows, _, _ in judged for joint in rows]).reshape(-1, 3)
    figures = {}
    for name, flag in VISIBILITY.items():
        _, well, mixed = joints[joints[:, 0] == flag].T
        figures |= {f'{name}_well': _mean(well), f'{name}_mixed': _mean(mixed)}
    figures['covered_OKS'] = _mean([oks for _, of_image, _ in judged for oks in of_image])
    figures['covered_AP'] = covered_ap(truth, detections, sigmas)
    number = sum(map(len, people.values()))
    return dict(figures, duplicates=sum(count for _, _, count in judged) / number if number else None)


def judge_image(
    people: Sequence[dict], poses: Sequence[dict], sigmas: Sequence[float]
) -> tuple[list[tuple[int, bool, bool]], list[float], int]:
    """The people of one image.

    Args:
        people (Sequence[dict]): annotations, each with a labelled joint.
        poses (Sequence[dict]): detections.
        sigmas (Sequence[float]): K.

    Returns:
        tuple[list[tuple[int, bool, bool]], list[float], int]: for each labelled joint of each found person its flag,
        whether it is well placed and whether it is mixed; the OKS of the covered joints of each found person with any;
        and the number of duplicates, poses whose highest OKS with a person is 0.5 or more, where that person
        has another pose.
    """
    if not people or not poses:
        return [], [], 0
    flags = np.array([person['keypoints'][2::3] for person in people])
    similarity = joint_oks(people, poses, sigmas)
    oks = similarity.sum(axis=-1) / (flags > 0).sum(axis=-1)[:, None]
    person, pose = linear_sum_assignment(oks, maximize=True)
    own, flags = similarity[person, pose], flags[person]
    well = own > WELL
    mixed = (similarity[:, pose] > WELL).any(axis=0) & ~well
    labelled = flags > 0
    joints = zip(flags[labelled].tolist(), well[labelled], mixed[labelled])
    covered = flags == VISIBILITY['covered']
    covered_oks = [float(values[mask].mean()) for values, mask in zip(own, covered) if mask.any()]
    pose_of = dict(zip(person.tolist(), pose.tolist()))
    best = [(int(column.argmax()), float(column.max())) for column in oks.T]
    duplicates = sum(v >= DUPLICATE and pose_of.get(n, index) != index for index, (n, v) in enumerate(best))
    return list(joints), covered_oks, duplicates


def covered_ap(truth: dict, detections: Sequence[dict], sigmas: Sequence[float]) -> float | None:
    """COCO's AP by covered joints alone.

    People without a covered joint are ignored: a pose that matches one of them by all its joints is neither a true nor
    a false positive. Images without a covered joint are not evaluated.

    Args:
        truth (dict): from ``clean_truth``.
        detections (Sequence[dict]): as COCO's ``loadRes`` reads them.
        sigmas (Sequence[float]): K.

    Returns:
        float | None: in [0, 1]; None without covered joints.
    """
    annotations = [_covered_only(annotation) for annotation in truth['annotations']]
    images = {a['image_id'] for a in annotations if is_person(a) and a['num_keypoints']}
    if not images:
        return None
    return coco_figures(dict(truth, annotations=annotations), detections, sigmas, list(images))['AP']


def _covered_only(annotation: dict) -> dict:
    joints = np.array(annotation['keypoints']).reshape(-1, 3)
    covered = joints[:, 2] == VISIBILITY['covered']
    if not covered.any() or not annotation['num_keypoints']:
        return dict(annotation, num_keypoints=0)
    joints = np.where(covered[:, None], joints, 0)
    return dict(annotation, keypoints=joints.ravel().tolist(), num_keypoints=int(covered.sum()))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
