"""Occlusions made of real people: somebody cut out of a picture and pasted over somebody else."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import TRANSFORMS

from .donors import read_donors
from .keypoint_file import count_joints
from .occlusion import occlude
from .placement import area_of
from .segmentation import to_run_lists


@TRANSFORMS.register_module()
class CopyPasteOcclusion(BaseTransform):
    """Pastes somebody else, cut out along their mask, over a person of a training picture.

    Put it right after the loading: masks are known in the picture's own frame only. Pictures without a target (no
    crowd region, ``min_keypoints`` labelled joints) pass unchanged, as do those for which no draw could be
    placed.

    What a picture's entries become:

    - The pasted person comes last in everything the toolbox keeps for each person, ``raw_ann_info`` included. Its
      joints outside the picture are not labelled. Those that were hidden where it was cut out stay so, v 1, although
      what hid them is not pasted along.
    - Joints of others under the pasted mask get v 1 in ``raw_ann_info``. In ``keypoints_visible`` that shows nowhere:
      the toolbox loads ``min(1, v)``, so a covered joint stays labelled, 1. With ``drop_covered`` both are 0.
    - Masks of others, of crowd regions too, lose the covered pixels, and ``area`` is what is left; boxes stay whole.
      So the heatmap mask does not hide the pasted person behind a crowd region. Whoever has no labelled joint left
      (``drop_covered``) becomes a region to ignore, as the toolbox has it for people without joints.
    - ``segmentation`` becomes one entry per person; the toolbox runs all polygons of a picture together.
    - RLEs in ``invalid_segs``, crowd regions' too, are uncompressed and stand in lists: the toolbox's
      ``BottomupGetHeatmapMask`` passes over bare RLE dicts.

    Chance comes from numpy's global generator, as in the toolbox's transforms. The donors are read at construction,
    once for all transforms of a process with the same file, so workers get them with the process that they fork from.

    Args:
        annotations (str): COCO keypoint file of the donors, people with a mask; the training's own will do.
        img_prefix (str): folder of its images.
        prob (float): share of the pictures that get somebody pasted, 0 to 1. Defaults to 0.5.
        iou (tuple[float, float]): IoU of the boxes of the two, drawn evenly from this range; 0 < least <= greatest
            < 1. Defaults to (0.3, 0.7).
        min_keypoints (int): labelled joints of the target and visible ones (v 2) of the donor, at least 1. Defaults to
            5.
        drop_covered (bool): whether covered joints are no longer labelled, and whoever was wholly covered is no longer
            there. Defaults to False: the decoder is to say where hidden joints are.
        max_tries (int): draws before a picture is left as it is, at least 1. Defaults to 10.

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
        if not _is_number(prob) or not 0 <= prob <= 1:
            raise ValueError(f'prob is {prob!r}; choose a probability from 0 to 1.')
        check_iou(iou)
        for name, value in (('min_keypoints', min_keypoints), ('max_tries', max_tries)):
            if not _is_number(value) or not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} is {value!r}; choose 1 or more.')
        if not isinstance(drop_covered, bool):
            raise ValueError(f'drop_covered is {drop_covered!r}; choose True or False.')
        self.prob, self.iou = prob, tuple(iou)
        self.min_keypoints, self.drop_covered, self.max_tries = min_keypoints, drop_covered, max_tries
        self.donors = read_donors(annotations, img_prefix, min_keypoints)

    def transform(self, results: dict) -> dict:
        """Paste somebody, or leave the picture as it is.

        Args:
            results (dict): with ``img`` (H, W, 3) BGR, ``img_path``, ``ori_shape`` and N entries in ``raw_ann_info``,
                in ``keypoints`` (N, K, 2) and the like, as the toolbox's data sets load them; optionally
                ``flip_indices`` (K), without which nobody is mirrored.

        Returns:
            dict: the same, with what is listed in the class's docstring.

        Raises:
            ValueError: behind a transform that changed the picture's size, joints or people; for a grey picture.
        """
        if np.random.rand() >= self.prob or not results.get('raw_ann_info'):
            return results
        _check_untouched(results)
        image, people = results['img'], results['raw_ann_info']
        done = occlude(
            image,
            people,
            results.get('img_path') or '',
            self.donors,
            self.iou,
            self.min_keypoints,
            self.drop_covered,
            self.max_tries,
            results.get('flip_indices'),
            np.random,  # the module's functions are the global generator's methods
        )
        if done is not None:
            results['img'] = done.image
            entries = _as_loaded(done.people, *image.shape[:2])
            if 'crowd_index' in results:  # CrowdPose: one number of the picture, repeated for each person
                entries['crowd_index'] = results['crowd_index'][:1] * len(done.people)
            results.update((key, value) for key, value in entries.items() if key in results)
        return results


def check_iou(iou: tuple[float, float]) -> None:
    """Refuse a range that no pair of boxes can be drawn from.

    Args:
        iou (tuple[float, float]): least and greatest.

    Raises:
        ValueError: unless 0 < least <= greatest < 1.
    """
    pair = isinstance(iou, (list, tuple)) and len(iou) == 2 and all(map(_is_number, iou))
    if not pair or not 0 < iou[0] <= iou[1] < 1:
        raise ValueError(f'iou is {iou!r}; give the least and the greatest, both between 0 and 1.')


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_untouched(results: dict) -> None:
    if 'img' not in results:
        raise ValueError('CopyPasteOcclusion stands before the picture is loaded; put it right after LoadPoseImage.')
    change = _change(results)
    if change:
        raise ValueError(
            f'CopyPasteOcclusion stands behind a transform that {change}, '
            'but masks are known in the picture as loaded; put it right after LoadPoseImage.'
        )
    shape = results['img'].shape
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f'CopyPasteOcclusion pastes people in colour, but the picture is {shape}; load it as (H, W, 3), with '
            "color_type='color'."
        )


def _change(results: dict) -> str | None:
    """What a transform did to the picture, people and joints that the toolbox loaded."""
    left = [key for key in ('warp_mat', 'flip', 'scale_factor', 'input_size') if key in results]
    if left:
        return f'left {left[0]}'
    people, size, loaded = results['raw_ann_info'], results['img'].shape[:2], tuple(results['ori_shape'][:2])
    if len(results['keypoints']) != len(people):
        return 'took people out'
    if size != loaded:
        return f'changed the picture from {loaded} to {size}'
    joints = np.array([person['keypoints'] for person in people], np.float32).reshape(len(people), -1, 3)
    if not np.array_equal(results['keypoints'], joints[..., :2], equal_nan=True):
        return 'changed the joints'
    return None


def _as_loaded(people: list[dict], height: int, width: int) -> dict:
    """What the toolbox's loader makes of these annotations (``parse_data_info``), picture by picture."""
    joints = np.array([person['keypoints'] for person in people], np.float32).reshape(len(people), -1, 3)
    x, y, w, h = np.array([person['bbox'] for person in people], float).T
    # As the toolbox clips them, to the last index.
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
    rows = ('bbox', 'keypoints')  # what the toolbox keeps as arrays with a leading 1 for each person
    parts = ('iscrowd', 'num_keypoints')
    entries['invalid_segs'] = [
        to_run_lists(person.get('segmentation'), height, width)
        for i, person in enumerate(people)
        if not BaseCocoStyleDataset._is_valid_instance(
            {**{key: entries[key][i : i + 1] for key in rows}, **{key: entries[key][i] for key in parts}}
        )
    ]
    return entries


def _area(person: dict, box: np.ndarray) -> float:
    # The second is the toolbox's guess for files without areas.
    return person.get('area', max(area_of(box) * 0.53, 1.0))
