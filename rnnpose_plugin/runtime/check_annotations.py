"""The content of an annotation file: what MMPose's data sets read of it."""

from __future__ import annotations

import reprlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from ..datasets.keypoint_file import read_json
from ..datasets.segmentation import LARGEST

COCO_HINT = 'use a file in the format of COCO keypoints, such as person_keypoints_train2017.json'
PARTS = ('images', 'annotations', 'categories')
READ_OF_IMAGES = ('id', 'file_name', 'width', 'height')
BATCH = 10_000  # people whose joints are one array at a time

# How a person's joints are found: 3 * K numbers in COCO's order, or None for an annotation that the data set skips.
Joints = Callable[[dict], Any]


def read_annotation_file(path: str, whole: bool = False) -> dict:
    """Read an annotation file and check its parts.

    Args:
        path (str): The JSON file.
        whole (bool): Keep what is not checked. Otherwise segmentations are left out and ``keypoints`` are arrays, which
            takes a third of the memory. Defaults to False.

    Returns:
        dict: With the lists ``images``, ``annotations`` and ``categories``, of dicts.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is not JSON in COCO's format.
    """
    data = read_json(path, None if whole else _compact)
    absent = [key for key in PARTS if not isinstance(data, dict) or key not in data]
    if absent:
        raise ValueError(f'annotation file {path} has no {", ".join(absent)}; {COCO_HINT}')
    for part in PARTS:
        if not isinstance(data[part], list):
            raise ValueError(f'annotation file {path} has {part} {shown(data[part])}, not a list; {COCO_HINT}')
        for entry in data[part]:
            if not isinstance(entry, dict):
                raise ValueError(f'annotation file {path} has {shown(entry)} among its {part}; {COCO_HINT}')
    if not data['images']:
        raise ValueError(f'annotation file {path} lists no images; {COCO_HINT}')
    return data


def _compact(entry: dict) -> dict:
    if 'file_name' in entry:
        return {name: entry[name] for name in READ_OF_IMAGES if name in entry}
    if 'keypoints' in entry and 'image_id' in entry:
        entry.pop('segmentation', None)
        with suppress(TypeError, OverflowError):  # refused later, with the value
            entry['keypoints'] = array('d', entry['keypoints'])
    return entry


def shown(value: Any) -> str:
    """A value of a JSON file, shortened for a sentence.

    Args:
        value: The value.

    Returns:
        str: At most about 60 characters.
    """
    return reprlib.repr(value.tolist() if isinstance(value, array) else value)


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def is_finite(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number.

    Args:
        value: The value.

    Returns:
        bool: False for NaN, infinity, numbers near it, True, False and everything else.
    """
    return type(value) in (int, float) and -1e300 < value < 1e300


def _is_size(value: Any) -> bool:
    return is_finite(value) and 0 < value < LARGEST


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and '\0' not in value


WHOLE = 'give a whole number, and number them anew if they are names'
# What MMPose's data sets read of every entry, beside keypoints and bbox: field, condition, cure.
FIELDS = {
    'images': (
        ('id', _is_id, WHOLE),
        ('file_name', _is_name, 'give the name of a file'),
        ('width', _is_size, "give the image's width in pixels"),
        ('height', _is_size, "give the image's height in pixels"),
    ),
    'annotations': (('id', _is_id, WHOLE), ('image_id', _is_id, WHOLE), ('category_id', _is_id, WHOLE)),
    'categories': (('id', _is_id, WHOLE),),
}
NAMES = dict(images='image', annotations='annotation', categories='category')


def check_fields(data: dict, path: str) -> None:
    """Check ids, names and sizes, and that annotations belong to images and categories of the file.

    Args:
        data (dict): From :func:`read_annotation_file`.
        path (str): The file, for messages.

    Raises:
        ValueError: for the first entry that is wrong.
    """
    for part, fields in FIELDS.items():
        for entry in data[part]:
            lacking = [name for name, _, _ in fields if name not in entry]
            if lacking:
                number = shown(entry.get('id'))
                raise ValueError(
                    f'annotation file {path} has {part} without {", ".join(lacking)}: {number}; {COCO_HINT}'
                )
            for name, is_good, cure in fields:
                if not is_good(entry[name]):
                    number = shown(entry['id'])
                    raise ValueError(f'{path}: {NAMES[part]} {number} has the {name} {shown(entry[name])}; {cure}')
    _check_references(data, path)


def _check_references(data: dict, path: str) -> None:
    known = {part: Counter(entry['id'] for entry in data[part]) for part in PARTS}
    for part in ('images', 'annotations'):
        if len(known[part]) < len(data[part]):
            number, times = known[part].most_common(1)[0]
            raise ValueError(
                f'{path}: {times} {part} have the id {number}, of which only the last would be read; give each its own'
            )
    for ann in data['annotations']:
        if ann['image_id'] not in known['images']:
            refuse(path, ann, f'belongs to image {ann["image_id"]}, which is not listed; remove it or add the image')
        if ann['category_id'] not in known['categories']:
            refuse(path, ann, f'has category {ann["category_id"]}, which is not listed; remove it or add the category')


def refuse(path: str, ann: dict, fault: str) -> None:
    """Raise the error of an annotation.

    Args:
        path (str): The file.
        ann (dict): The annotation.
        fault (str): What is wrong and what to do.

    Raises:
        ValueError: always.
    """
    raise ValueError(f'{path}: annotation {ann["id"]} {fault}')


def check_people(
    annotations: list[dict], num_keypoints: int, path: str, joints: Joints | None = None
) -> Iterator[tuple[dict, bool]]:
    """Check keypoints, boxes and flags of people.

    Args:
        annotations (list[dict]): Of the file; those without keypoints are passed over, as by MMPose.
        num_keypoints (int): K.
        path (str): The file, for messages.
        joints (Joints, optional): As the data set class reads them. Defaults to the field ``keypoints``.

    Yields:
        tuple[dict, bool]: Each person, and whether it has a labelled joint.

    Raises:
        ValueError: for the first person that is wrong.
    """
    for start in range(0, len(annotations), BATCH):
        batch = annotations[start : start + BATCH]
        if joints is None:
            pairs = [(ann, ann['keypoints']) for ann in batch if 'keypoints' in ann]
        else:
            pairs = [(ann, row) for ann in batch if (row := joints(ann)) is not None]
        people = [ann for ann, _ in pairs]
        visibility = _keypoint_array(people, [row for _, row in pairs], num_keypoints, path)[..., 2]
        for ann, most in zip(people, visibility.max(axis=1, initial=0).tolist()):
            _check_box(ann, path)
            _check_flags(ann, joints is None and most == 2, path)
            yield ann, most > 0


def _keypoint_array(people: list[dict], rows: list, num_keypoints: int, path: str) -> np.ndarray:
    for ann, row in zip(people, rows):
        if isinstance(row, list):  # not numbers only, or the whole file was asked for
            _check_numbers(ann, row, 'keypoints', path)
        length = len(row) if isinstance(row, (list, array, np.ndarray)) else 0
        if length != 3 * num_keypoints:
            refuse(
                path, ann, f'has {length} keypoint numbers, that is {length / 3:g} keypoints, but the model has '
                f'{num_keypoints}; use data and a model (model.head.num_keypoints) of the same number',
            )  # fmt: skip
    joined = b''.join(row if isinstance(row, array) else np.asarray(row, float).tobytes() for row in rows)
    values = np.frombuffer(joined).reshape(len(people), num_keypoints, 3)
    for person in np.flatnonzero(~(np.abs(values) < LARGEST).all(axis=(1, 2)))[:1]:
        _check_numbers(people[person], values[person].ravel().tolist(), 'keypoints', path)
    for person, joint in np.argwhere(~np.isin(values[..., 2], (0, 1, 2)))[:1]:
        fault = f'has visibility {values[person, joint, 2]:g} at keypoint {joint}; only 0, 1 and 2 are allowed'
        refuse(path, people[person], f'{fault}, correct it')
    return values


def _check_numbers(ann: dict, values: Iterable, key: str, path: str) -> None:
    for value in values:
        if not is_finite(value):
            fault = f'has {shown(value)} in its {key}; only finite numbers are allowed, correct or remove it'
            refuse(path, ann, fault)
        if abs(value) >= LARGEST:
            refuse(path, ann, f'has {value:g} in its {key}, beyond any image; correct or remove it')


def _check_box(ann: dict, path: str) -> None:
    box = ann.get('bbox')
    if not isinstance(box, list) or len(box) != 4:
        refuse(path, ann, f'has the bbox {shown(box)}; give the four numbers x, y, width, height')
    _check_numbers(ann, box, 'bbox', path)
    if box[2] < 0 or box[3] < 0:
        refuse(path, ann, f'has the bbox {box} of negative size; give x, y, width, height')


def _check_flags(ann: dict, is_visible: bool, path: str) -> None:
    """What MMPose sorts people by; CrowdPose's num_keypoints counts visible joints (v 2) only."""
    crowd, count, area = ann.get('iscrowd'), ann.get('num_keypoints'), ann.get('area')
    if crowd is not None and not (isinstance(crowd, (int, float)) and crowd in (0, 1)):
        refuse(path, ann, f'has iscrowd {shown(crowd)}; give 0 or 1')
    if count is not None and not (is_finite(count) and count >= 0):
        refuse(path, ann, f'has num_keypoints {shown(count)}; give the number of labelled joints, or remove it')
    if count == 0 and is_visible and not crowd:
        refuse(path, ann, 'has num_keypoints 0 but visible joints, so it would be ignored; remove its num_keypoints')
    if area is not None and type(area) not in (int, float):
        refuse(path, ann, f'has the area {shown(area)}; give a number of pixels, or remove it')
