"""What MMPose uses of xtcocotools, on pycocotools: used where xtcocotools does not import, as beside numpy 2.

xtcocotools evaluates more kinds of results than pycocotools. Here they are written as results that pycocotools knows:
a part of the body, such as a hand, becomes the only keypoints of a person; an area by the box becomes the area. So the
evaluation itself is pycocotools' own.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from pycocotools import coco, cocoeval

BOX_SHARE = 0.53  # area of a person by its box
HANDS_AND_FACE = ('foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts')
PARTS = {
    'keypoints': ('keypoints',),
    'keypoints_crowd': ('keypoints',),
    'keypoints_body': ('keypoints',),
    'keypoints_wholebody': ('keypoints', *HANDS_AND_FACE),
    **{f'keypoints_{name.split("_")[0]}': (name,) for name in HANDS_AND_FACE},
}
CROWD_TYPES = dict(easy=(-np.inf, 0.2), medium=(0.2, 0.8), hard=(0.8, np.inf))  # by the crowd index of CrowdPose


class COCO(coco.COCO):
    """An annotation file.

    Args:
        annotation_file (str, optional): path. Defaults to None, empty.
        **kwargs: refused.

    Raises:
        ValueError: for other arguments of xtcocotools.
    """

    def __init__(self, annotation_file: str | None = None, **kwargs: Any) -> None:
        if kwargs:
            raise ValueError(f'{sorted(kwargs)} of COCO need xtcocotools, absent here; install it beside numpy 1')
        super().__init__(annotation_file)
        self.anno_file = [annotation_file]
        for annotation in self.dataset.get('annotations', []):
            annotation.setdefault('iscrowd', False)

    def loadRes(self, resFile: str | list[dict] | np.ndarray) -> coco.COCO:  # noqa: N802  (COCO's name)
        """Detections; unlike in pycocotools there may be none.

        Args:
            resFile (str | list[dict] | np.ndarray): path of a JSON file, or its content.

        Returns:
            coco.COCO: with the images of this one.
        """
        if isinstance(resFile, str):
            with open(resFile, encoding='utf-8') as file:
                resFile = json.load(file)
        if len(resFile):
            return super().loadRes(resFile)
        return as_coco(dict(self.dataset, annotations=[]))


class COCOeval(cocoeval.COCOeval):
    """COCO's evaluation of keypoints, also of CrowdPose and COCO-WholeBody.

    Args:
        cocoGt (coco.COCO): people.
        cocoDt (coco.COCO): detections, of its ``loadRes``.
        iouType (str): one of ``PARTS``, or pycocotools' ``'bbox'`` and ``'segm'``. Defaults to ``'keypoints'``.
        sigmas (Sequence[float], optional): K, of the OKS. Defaults to None, COCO's.
        use_area (bool): False takes a share of the box in place of the annotated area. Defaults to True.

    Raises:
        ValueError: for another kind.
    """

    def __init__(
        self,
        cocoGt: coco.COCO,
        cocoDt: coco.COCO,
        iouType: str = 'keypoints',
        sigmas: Sequence[float] | None = None,
        use_area: bool = True,
    ) -> None:
        if iouType in ('bbox', 'segm'):
            super().__init__(cocoGt, cocoDt, iouType)
            return
        if iouType not in PARTS:
            raise ValueError(f'iou_type is {iouType!r}; use one of {", ".join(PARTS)}')
        self.crowd = iouType == 'keypoints_crowd'
        super().__init__(self._people(cocoGt, iouType, use_area), self._found(cocoDt, iouType), 'keypoints')
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas)

    def _people(self, truth: coco.COCO, kind: str, use_area: bool) -> coco.COCO:
        """Ids count from 1, as pycocotools takes 0 for no match; joints are counted but for CrowdPose, as xtcocotools
        does."""
        people = []
        for number, annotation in enumerate(truth.dataset.get('annotations', []), start=1):
            person = dict(annotation, id=number, keypoints=_joints(annotation, kind))
            if not self.crowd:
                person['num_keypoints'] = _labelled(person)
            if not use_area or 'area' not in person:
                person['area'] = person['bbox'][2] * person['bbox'][3] * BOX_SHARE
            people.append(person)
        return as_coco(dict(truth.dataset, annotations=people))

    @staticmethod
    def _found(detections: coco.COCO, kind: str) -> coco.COCO:
        score = 'score' if PARTS[kind] == ('keypoints',) else f'{kind.split("_")[1]}_score'
        poses = detections.dataset.get('annotations', [])
        if any(score not in pose for pose in poses):
            warnings.warn(f"'{score}' not found, use 'score' instead.", stacklevel=2)
        found = [
            dict(pose, keypoints=_joints(pose, kind), score=pose.get(score, pose['score']))
            for pose in poses
        ]  # fmt: skip
        return as_coco(dict(detections.dataset, annotations=[pose for pose in found if _labelled(pose)]))

    def summarize(self) -> None:
        """As pycocotools; of CrowdPose AP, AP50, AP75, AR, AR50, AR75, and AP of easy, medium and hard images."""
        super().summarize()
        if not getattr(self, 'crowd', False):
            return
        images = self.cocoGt.dataset['images']
        if any('crowdIndex' not in image for image in images):
            raise ValueError("keypoints_crowd needs the crowdIndex of each image, which CrowdPose's files have")
        whole = self.params, self.eval, self.evalImgs
        by_type = [
            self._precision([image['id'] for image in images if low <= image['crowdIndex'] < high])
            for low, high in CROWD_TYPES.values()
        ]
        self.params, self.eval, self.evalImgs = whole
        for name, precision in zip(CROWD_TYPES, by_type):
            print(f' Average Precision  (AP) @[ type={name:>6s} | maxDets= 20 ] = {precision:0.3f}')
        self.stats = np.array([*self.stats[:3], *self.stats[5:8], *by_type])

    def _precision(self, images: list) -> float:
        self.params = deepcopy(self.params)
        self.params.imgIds = images
        self.evaluate()
        self.accumulate()
        return round(np.mean(self.eval['precision'][:, :, :, 0, :]), 4)  # in four digits, as xtcocotools


def as_coco(content: dict) -> coco.COCO:
    """An annotation file from its content.

    Args:
        content (dict): of the file.

    Returns:
        coco.COCO: with its index.
    """
    made = coco.COCO()
    made.dataset = content
    made.createIndex()
    return made


def _joints(annotation: dict, kind: str) -> list[float]:
    return [number for part in PARTS[kind] for number in annotation[part]]


def _labelled(annotation: dict) -> int:
    return int(np.count_nonzero(np.array(annotation['keypoints'])[2::3] > 0))
