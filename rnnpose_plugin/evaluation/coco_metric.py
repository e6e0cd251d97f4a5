"""COCO's keypoint metric for bottom-up models, on whatever annotation file in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mmengine.logging import print_log
from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS
from xtcocotools.coco import COCO

from .truth import clean_truth, is_person

FAR = -1e4  # pixels, matches no person; such a pose is still smaller than the areas that COCO leaves out


@METRICS.register_module()
class BottomupCocoMetric(CocoMetric):
    """MMPose's CocoMetric, right in cases where that one raises or reports another number.

    - No detections: AP and AR are 0, and ``format_only`` writes an empty list.
    - Only the images that were tested are evaluated (``indices`` of the data set), each once.
    - Ids, categories, and missing or unusable areas of any kind: see ``evaluation/truth.py``.
    - A pose with a NaN matches no person; in CocoMetric it matches any.

    Arguments and all other results are those of CocoMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See ``CocoMetric.compute_metrics``.

        Args:
            results (list): pairs of prediction and ground truth, one per image.

        Returns:
            dict[str, float]: the ten COCO figures, or the nine of CrowdPose; -1 where there are no people to detect.
        """
        poses = [dict(prediction, category_id=1, **_finite(prediction)) for prediction, _ in results]
        image_ids = None
        if isinstance(poses[0]['id'], Sequence):  # bottom-up; a top-down sample is one of several of its image
            results = list({pose['img_id']: (pose, truth) for pose, (_, truth) in zip(poses, results)}.values())
            image_ids = {pose['img_id'] for pose in poses}
        kept = self.coco, self.use_area
        with TemporaryDirectory() as folder:
            try:
                self.coco, self.use_area = self._truth([truth for _, truth in results], image_ids, folder), True
                return super().compute_metrics(results)
            finally:
                self.coco, self.use_area = kept

    def _truth(self, truths: list[dict], image_ids: set | None, folder: str) -> COCO:
        """A fresh copy for each evaluation, as CocoMetric changes it; in a file, which AP(E) to AP(H) are read from."""
        content = _content(truths) if self.coco is None else self.coco.dataset
        truth = clean_truth(content, image_ids, self.use_area)
        if not self.format_only and not any(map(is_person, truth['annotations'])):
            print_log('There are no people with labelled joints, so AP and AR are -1.', 'current', level=30)
        path = Path(folder, 'truth.json')
        path.write_text(json.dumps(truth), encoding='utf-8')
        return COCO(str(path))


def _content(truths: list[dict]) -> dict:
    """What the data samples hold of an annotation file."""
    images = [dict(id=truth['img_id'], width=truth['width'], height=truth['height']) for truth in truths]
    for image, truth in zip(images, truths):
        if 'crowd_index' in truth:  # MMPose gives a bottom-up sample that of each person
            image['crowdIndex'] = float(np.ravel(truth['crowd_index'])[0])
    return dict(images=images, annotations=[a for truth in truths for a in truth['raw_ann_info'] if a is not None])


def _finite(prediction: dict) -> dict:
    limits = dict(keypoints=FAR, keypoint_scores=0.0, bbox_scores=0.0)
    return {
        name: np.nan_to_num(np.asarray(prediction[name]), nan=limit, posinf=limit, neginf=limit)
        for name, limit in limits.items()
    }
