"""Occlusions made of real people: a person cut out of one image and pasted over a person of another one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import TRANSFORMS

from .donors import read_donors
from .keypoint_file import count_joints
from .occlusion import LabelledImage, OcclusionSettings, is_number, occlude
from .placement import area_of
from .segmentation import to_run_lists


@TRANSFORMS.register_module()
class CopyPasteOcclusion(BaseTransform):
    """Paste another person, cut out along the mask, over a person of a training image.

    Put it right after the loading, as masks are known in the frame of the loaded image only. Images without a target
    (no crowd region, ``min_keypoints`` labelled joints) pass unchanged, as do those for which no draw could be placed.

    Changes to the sample:

    - The pasted person is last in everything MMPose keeps per person, ``raw_ann_info`` included. Its joints outside the
      image are not labelled. Joints that were hidden in the donor's image keep v 1, although what hid them is not
      pasted.
    - Joints of others under the pasted mask get v 1 in ``raw_ann_info``. ``keypoints_visible`` does not show this:
      MMPose loads ``min(1, v)``, so a covered joint keeps 1. With ``drop_covered`` both are 0.
    - Masks of others, of crowd regions too, lose the covered pixels, and ``area`` is the number of pixels left; boxes
      are not changed. So the heatmap mask does not hide the pasted person behind a crowd region. A person without any
      labelled joint left (``drop_covered``) becomes a region to ignore, as MMPose does with people without joints.
    - ``segmentation`` becomes one entry per person; MMPose concatenates the polygons of all people of an image.
    - RLEs in ``invalid_segs``, those of crowd regions too, become lists of one uncompressed RLE: MMPose's
      ``BottomupGetHeatmapMask`` skips bare RLE dicts.

    Random numbers come from numpy's global generator, as in MMPose's transforms. The donors are read at construction,
    once per process for all transforms with the same file; workers of a data loader inherit them when they fork.

    Args:
        annotations (str): COCO keypoint file of the donors, with masks; may be the training file itself.
        img_prefix (str): folder of its images.
        prob (float): probability that a person is pasted, 0 to 1. Defaults to 0.5.
        iou (tuple[float, float]): IoU of the two boxes, drawn uniformly from this range; 0 < least <= greatest < 1.
            Defaults to (0.3, 0.7).
        min_keypoints (int): labelled joints of the target and visible ones (v 2) of the donor, at least 1; all joints
            where people have fewer. Defaults to 5.
        drop_covered (bool): whether covered joints lose their label and wholly covered people are removed. Defaults to
            False: the decoder is to predict hidden joints too.
        max_tries (int): random draws before an image is left unchanged, at least 1. Defaults to 10.

    Raises:
        ValueError: for a setting out of range, or a file without donors.
        FileNotFoundError: if the file does not exist.
    """

    def __init__(
        self,
        annotations: str,
        img_prefix: str,
        prob: float = 0.5,
        iou: tuple[float, float] = (0.3, 0.7),
        min_keypoints: int = 5,
        drop_covered: bool = False,
        max_tries: int = 10,
    ) -> None:
        if not is_number(prob) or not 0 <= prob <= 1:
            raise ValueError(f'prob is {prob!r}; choose a probability from 0 to 1.')
        self.prob = prob
        settings = OcclusionSettings(iou, min_keypoints, drop_covered, max_tries)
        self.donors = read_donors(annotations, img_prefix, min_keypoints)
        self.settings = replace(settings, min_keypoints=self.donors.min_keypoints)

    def transform(self, results: dict) -> dict:
        """Paste a person, or return the sample unchanged.

        Args:
            results (dict): with ``img`` (H, W, 3) BGR, ``img_path``, ``ori_shape`` and N entries in ``raw_ann_info``,
                in ``keypoints`` (N, K, 2) and the like, as MMPose's data sets load them; optionally ``flip_indices``
                (K), without which donors are not mirrored.

        Returns:
            dict: the same, with the changes listed in the class's docstring.

        Raises:
            ValueError: after a transform that changed the image's size, joints or people; for a grey image.
        """
        if np.random.rand() >= self.prob or not results.get('raw_ann_info'):
            return results
        _check_untouched(results)
        image, people = results['img'], results['raw_ann_info']
        source = LabelledImage(image, people, results.get('img_path') or '', results.get('flip_indices'))
        done = occlude(source, self.donors, self.settings, np.random)
        if done is not None:
            results['img'] = done.image
            entries = _as_loaded(done.people, image.shape[:2])
            if 'crowd_index' in results:  # CrowdPose: one number of the image, repeated for each person
                entries['crowd_index'] = results['crowd_index'][:1] * len(done.people)
            results.update((key, value) for key, value in entries.items() if key in results)
        return results


def _check_untouched(results: dict) -> None:
    if 'img' not in results:
        raise ValueError('CopyPasteOcclusion comes before the image is loaded; put it right after LoadPoseImage.')
    change = _change(results)
    if change:
        raise ValueError(
            f'CopyPasteOcclusion comes after a transform that {change}, but masks are known in the frame of the loaded '
            'image; put it right after LoadPoseImage.'
        )
    shape = results['img'].shape
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f'CopyPasteOcclusion pastes people in colour, but the image is {shape}; load it as (H, W, 3), with '
            "color_type='color'."
        )


def _change(results: dict) -> str | None:
    """What a transform changed after MMPose loaded image, people and joints; None if nothing."""
    left = [key for key in ('warp_mat', 'flip', 'scale_factor', 'input_size') if key in results]
    if left:
        return f'left {left[0]}'
    people, size, loaded = results['raw_ann_info'], results['img'].shape[:2], tuple(results['ori_shape'][:2])
    if len(results['keypoints']) != len(people):
        return 'removed people'
    if size != loaded:
        return f'changed the image from {loaded} to {size}'
    joints = np.array([person['keypoints'] for person in people], np.float32).reshape(len(people), -1, 3)
    if not np.array_equal(results['keypoints'], joints[..., :2], equal_nan=True):
        return 'changed the joints'
    return None


def _as_loaded(people: list[dict], size: tuple[int, int]) -> dict:
    """These annotations of one image as MMPose's ``parse_data_info`` loads them."""
    height, width = size
    joints = np.array([person['keypoints'] for person in people], np.float32).reshape(len(people), -1, 3)
    x, y, w, h = np.array([person['bbox'] for person in people], float).T
    # MMPose clips them to the last index.
    boxes = np.clip(np.stack([x, y, x + w, y + h], axis=1), 0, [width - 1, height - 1] * 2).astype(np.float32)
    entries = dict(
        bbox=boxes,
        bbox_score=np.ones(len(people), np.float32),
        keypoints=joints[..., :2].copy(),
        keypoints_visible=np.minimum(1, joints[..., 2]),
        num_keypoints=[person.get('num_keypoints', count_joints(person)) for person in people],
        area=np.array([_area(person, box) for person, box in zip(people, boxes)], np.float32),
        iscrowd=[person.get('iscrowd', 0) for person in people],
        segmentation=[person.get('segmentation') for person in people],
        id=[person['id'] for person in people],
        category_id=np.array([person['category_id'] for person in people]),
        raw_ann_info=people,
    )
    rows = ('bbox', 'keypoints')  # arrays of shape (1, ...) per person in MMPose
    parts = ('iscrowd', 'num_keypoints')
    entries['invalid_segs'] = [
        to_run_lists(person.get('segmentation'), size)
        for i, person in enumerate(people)
        if not BaseCocoStyleDataset._is_valid_instance(
            {**{key: entries[key][i : i + 1] for key in rows}, **{key: entries[key][i] for key in parts}}
        )
    ]
    return entries


def _area(person: dict, box: np.ndarray) -> float:
    # The second is MMPose's estimate for files without areas.
    return person.get('area', max(area_of(box) * 0.53, 1.0))
