"""People of a COCO keypoint file who can be cut out: with a mask, enough visible joints and a picture."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import NamedTuple

import numpy as np
import xtcocotools.mask as coco_mask
from mmengine.logging import print_log

from .loading import LoadPoseImage
from .occlusion import area_of, corners, to_mask, to_rle


class Donor(NamedTuple):
    """Somebody who can be cut out.

    Args:
        id: Of the annotation.
        image_id: Of the picture.
        path: Of the picture.
        size: Height and width of the picture, pixels.
        box: (4,) x1, y1, x2, y2, edge coordinates, inside the picture.
        joints: (K, 3) x, y and COCO's v, index coordinates.
        rle: Compressed mask.
    """

    id: int
    image_id: int
    path: str
    size: tuple[int, int]
    box: np.ndarray
    joints: np.ndarray
    rle: dict


class Donors:
    """Reads the file and keeps who can be cut out; what is wrong with others is counted in one log line.

    Crowd regions and people with too few visible joints are no donors, and no fault. Joints that are labelled but
    hidden do not count: what hid them is not cut out, and a cut-out of hidden joints shows next to nobody.

    Args:
        annotations (str): a COCO keypoint file.
        img_prefix (str): folder of its images.
        min_keypoints (int): visible joints (v 2) a donor needs.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is no COCO file, or has not one donor.
    """

    def __init__(self, annotations: str, img_prefix: str, min_keypoints: int) -> None:
        content = read_keypoint_file(annotations)
        self.people: list[Donor] = []
        images = {image['id']: image for image in content['images']}
        categories = {category['id'] for category in content['categories']}
        present = _Present(img_prefix)
        skipped = Counter()
        for annotation in content['annotations']:
            if annotation.get('iscrowd', 0) or count_joints(annotation, 2) < min_keypoints:
                continue
            image = images.get(annotation['image_id'])
            fault, donor = _examine(annotation, image, categories, present)
            if fault:
                skipped[fault] += 1
            else:
                self.people.append(donor)
        counts = ', '.join(f'{count} {fault}' for fault, count in sorted(skipped.items()))
        if not self.people:
            raise ValueError(
                f'{annotations} has nobody to cut out, with a mask and {min_keypoints} visible joints (v 2)'
                f'{f" (skipped: {counts})" if counts else ""}; give a COCO keypoint file with segmentations and the '
                'folder of its images.'
            )
        if skipped:
            print_log(f'{annotations}: {len(self.people)} people to cut out; skipped {counts}.', logger='current')

    @staticmethod
    def cut_out(donor: Donor) -> tuple[np.ndarray, np.ndarray]:
        """Read a donor's picture.

        Args:
            donor (Donor): Whose.

        Returns:
            tuple: The picture (h, w, 3) uint8 BGR, and the person's pixels (h, w) bool.

        Raises:
            FileNotFoundError: if the picture has gone.
            ValueError: if it cannot be decoded or is not as large as the file says.
        """
        image = LoadPoseImage()(dict(img_path=donor.path))['img']
        if image.shape[:2] != donor.size:
            raise ValueError(
                f'image {donor.path} has {image.shape[0]} x {image.shape[1]} pixels (height x width) but its file '
                f'of annotations says {donor.size[0]} x {donor.size[1]}; correct the file or fetch the image again.'
            )
        return image, to_mask(donor.rle, *donor.size)


def read_keypoint_file(path: str) -> dict:
    """Read a COCO file.

    Args:
        path (str): the JSON file.

    Returns:
        dict: with ``images``, ``annotations`` and ``categories``.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is no JSON, or lacks one of the three.
    """
    wanted = {'images', 'annotations', 'categories'}
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f'annotation file {path} does not exist; give a COCO keypoint file.') from None
    except ValueError as error:
        raise ValueError(f'annotation file {path} is no valid JSON ({error}); fetch it again.') from None
    if not isinstance(content, dict) or not wanted <= content.keys():
        raise ValueError(f'annotation file {path} lacks one of {", ".join(sorted(wanted))}; give a COCO keypoint file.')
    return content


def count_joints(annotation: dict, least_v: int = 1) -> int:
    """Number of labelled, or of visible, joints.

    Args:
        annotation (dict): COCO annotation.
        least_v (int): 1 counts labelled joints, 2 visible ones. Defaults to 1.

    Returns:
        int: How many have at least this v; 0 without keypoints.
    """
    return sum(v >= least_v for v in annotation.get('keypoints', [])[2::3])


class _Present:
    """Which images exist: one listing of a folder instead of 100,000 questions to a network disk."""

    def __init__(self, img_prefix: str) -> None:
        self.img_prefix = img_prefix
        self._listings: dict[str, set[str]] = {}

    def path(self, image: dict) -> str | None:
        path = os.path.join(self.img_prefix, image['file_name'])
        folder, name = os.path.split(path)
        if folder not in self._listings:
            self._listings[folder] = set(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else set()
        return path if name in self._listings[folder] else None


def _examine(
    annotation: dict, image: dict | None, categories: set[int], present: _Present
) -> tuple[str | None, Donor | None]:
    """What is wrong with somebody, or the donor."""
    if annotation.get('category_id') not in categories:
        return 'of an unknown category', None
    if len(annotation['keypoints']) % 3:
        return 'whose keypoints are no triples', None
    path = image and present.path(image)
    if path is None:
        return 'whose image is missing', None
    height, width = image['height'], image['width']
    box = corners(annotation.get('bbox') or (0, 0, 0, 0), height, width)
    if not area_of(box):
        return 'whose box is outside the image', None
    rle = to_rle(annotation.get('segmentation'), height, width)
    if rle is None or not coco_mask.area(rle):
        return 'without a mask', None
    joints = np.asarray(annotation['keypoints'], np.float32).reshape(-1, 3)
    return None, Donor(annotation['id'], annotation['image_id'], path, (height, width), box, joints, rle)
