"""Donors: people of a COCO keypoint file who can be cut out, with a mask, enough visible joints and an image file."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xtcocotools.mask as coco_mask
from mmengine.logging import print_log

from .keypoint_file import check_people, count_joints, counts_text, read_keypoint_file, usable_images
from .loading import LoadPoseImage
from .placement import area_of, corners
from .segmentation import to_mask, to_rle


class Donor(NamedTuple):
    """A person who can be cut out.

    Args:
        id: Of the annotation.
        image_id: Of the image.
        category_id: Of the annotation.
        path: Of the image file.
        size: Height and width of the image, pixels.
        box: (4,) x1, y1, x2, y2, edge coordinates, clipped to the image.
        joints: (K, 3) x, y and COCO's v, index coordinates.
        rle: Compressed mask.
    """

    id: int
    image_id: int
    category_id: int
    path: str
    size: tuple[int, int]
    box: np.ndarray
    joints: np.ndarray
    rle: dict


class Donors:
    """The donors of a file; faulty annotations are skipped and counted in one log line.

    Crowd regions and people with too few visible joints are skipped without a count. Labelled but hidden joints (v 1)
    do not count as visible: the cut-out would not show them.

    Args:
        annotations (str): COCO keypoint file with segmentations.
        img_prefix (str): folder of its images.
        min_keypoints (int): visible joints (v 2) a donor needs; all of them where people have fewer in this file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a COCO file or has no donor.
    """

    def __init__(self, annotations: str, img_prefix: str, min_keypoints: int) -> None:
        content = read_keypoint_file(annotations)
        images, people = usable_images(content), check_people(content)
        self.people: list[Donor] = []
        joints = max((len(annotation['keypoints']) // 3 for annotation in people.usable), default=0)
        self.min_keypoints = min_keypoints = min(min_keypoints, joints) or min_keypoints
        present = _Present(img_prefix)
        skipped = people.left_out + people.unlabelled
        for annotation in people.usable:
            if annotation['iscrowd'] or count_joints(annotation, 2) < min_keypoints:
                continue
            fault, donor = _examine(annotation, images[annotation['image_id']], present)
            if fault:
                skipped[fault] += 1
            else:
                self.people.append(donor)
        self.categories = {donor.category_id for donor in self.people}
        counts = counts_text(skipped)
        if not self.people:
            raise ValueError(
                f'{annotations} has no person with a mask and {min_keypoints} visible joints (v 2) to cut out'
                f'{f" (skipped: {counts})" if counts else ""}; give a COCO keypoint file with segmentations and the '
                'folder of its images.'
            )
        if skipped:
            print_log(f'{annotations}: {len(self.people)} people to cut out; skipped {counts}.', logger='current')

    @staticmethod
    def cut_out(donor: Donor) -> tuple[np.ndarray, np.ndarray]:
        """Read a donor's image.

        Args:
            donor (Donor): The person.

        Returns:
            tuple: The image (h, w, 3) uint8 BGR, and the person's mask (h, w) bool.

        Raises:
            FileNotFoundError: if the image no longer exists.
            ValueError: if it cannot be decoded or its size is not that of the annotation file.
        """
        return load_image(donor.path, donor.size), to_mask(donor.rle, donor.size)


def load_image(path: str, size: tuple[int, int]) -> np.ndarray:
    """Read an image and check its size.

    Args:
        path (str): of the image file.
        size (tuple[int, int]): height and width in the annotation file, pixels.

    Returns:
        np.ndarray: (h, w, 3) uint8 BGR.

    Raises:
        FileNotFoundError: if the image does not exist.
        ValueError: if it cannot be decoded or has another size.
    """
    return LoadPoseImage()(dict(img_path=path, annotated_size=size))['img']


def read_donors(annotations: str, img_prefix: str, min_keypoints: int) -> Donors:
    """The donors of a file, read once per process unless the file changes.

    Args:
        annotations (str): as of :class:`Donors`.
        img_prefix (str): as of :class:`Donors`.
        min_keypoints (int): as of :class:`Donors`.

    Returns:
        Donors: The same object for the same arguments.
    """
    modified = os.stat(annotations).st_mtime_ns if os.path.exists(annotations) else None
    return _read_donors(annotations, img_prefix, min_keypoints, modified)


@lru_cache(maxsize=4)
def _read_donors(annotations: str, img_prefix: str, min_keypoints: int, modified: int | None) -> Donors:
    return Donors(annotations, img_prefix, min_keypoints)


class _Present:
    """Which images exist, by one listing per folder instead of 100,000 look-ups on a network file system."""

    def __init__(self, img_prefix: str) -> None:
        self.img_prefix = img_prefix
        self._listings: dict[str, set[str]] = {}

    def path(self, image: dict) -> str | None:
        path = os.path.join(self.img_prefix, image['file_name'])
        folder, name = os.path.split(path)
        if folder not in self._listings:
            self._listings[folder] = set(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else set()
        return path if name in self._listings[folder] else None


def _examine(annotation: dict, image: dict, present: _Present) -> tuple[str | None, Donor | None]:
    """The fault of an annotation and None, or None and the donor."""
    path = present.path(image)
    if path is None:
        return 'whose image is missing', None
    size = (image['height'], image['width'])
    box = corners(annotation['bbox'], size)
    if not area_of(box):
        return 'whose box is outside the image', None
    rle = to_rle(annotation.get('segmentation'), size)
    if rle is None or not coco_mask.area(rle):
        return 'without a mask', None
    joints = np.asarray(annotation['keypoints'], np.float32).reshape(-1, 3)
    numbers = (annotation[key] for key in ('id', 'image_id', 'category_id'))
    return None, Donor(*numbers, path, size, box, joints, rle)
