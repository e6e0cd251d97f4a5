"""Reading a COCO keypoint file and sorting out unusable annotations."""

from __future__ import annotations

import gc
import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import mmengine.fileio as fileio

from .segmentation import are_numbers


class People(NamedTuple):
    """The annotations of a file, sorted.

    Args:
        usable: Complete ones, crowd regions included.
        left_out: Number of the others by fault.
        unlabelled: Number of usable ones without valid joints, by fault.
    """

    usable: list[dict]
    left_out: Counter
    unlabelled: Counter


def read_json(path: str, hook: Callable[[dict], Any] | None = None) -> Any:
    """Read an annotation file.

    Args:
        path (str): the JSON file, or a URL that MMEngine knows.
        hook (Callable, optional): replaces each dict. Defaults to None.

    Returns:
        Any: its content.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is no ordinary file, not valid JSON, or nested too deeply.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f'annotation file {path} is a folder, a device or a pipe; name a JSON file')
    collecting = gc.isenabled()
    gc.disable()  # it would search the growing content again and again, for a third of the time
    try:
        if '://' in str(path):  # a storage that MMEngine knows
            return json.loads(fileio.get_text(path), object_hook=hook)
        with open(path, encoding='utf-8') as file:
            return json.load(file, object_hook=hook)
    except FileNotFoundError:
        raise FileNotFoundError(f'annotation file {path} does not exist; check data_root and ann_file') from None
    except ValueError as error:  # not JSON, or not text
        raise ValueError(
            f'annotation file {path} is not valid JSON ({error}), perhaps cut off; download it again'
        ) from None
    except RecursionError:
        raise ValueError(f'annotation file {path} has lists nested too deeply; give a COCO keypoint file') from None
    finally:
        if collecting:
            gc.enable()


def read_keypoint_file(path: str) -> dict:
    """Read a COCO file.

    Args:
        path (str): the JSON file.

    Returns:
        dict: with the lists ``images``, ``annotations`` and ``categories``.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is not valid JSON or lacks one of the three.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f'annotation file {path} does not exist; give a COCO keypoint file.')
    wanted, content = ('annotations', 'categories', 'images'), read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in wanted):
        raise ValueError(f'annotation file {path} lacks one of {", ".join(wanted)}; give a COCO keypoint file.')
    return content


def usable_images(content: dict) -> dict[int, dict]:
    """Images with a name and a size.

    Args:
        content (dict): COCO file.

    Returns:
        dict: the images' entries by their ids.
    """
    return {
        image['id']: image
        for image in content['images']
        if isinstance(image, dict)
        and _is_whole(image.get('id'))
        and isinstance(image.get('file_name'), str)
        and all(_is_whole(image.get(side)) and image[side] > 0 for side in ('height', 'width'))
    }


def usable_categories(content: dict) -> dict[int, dict]:
    """Categories with an id.

    Args:
        content (dict): COCO file.

    Returns:
        dict: the categories' entries by their ids.
    """
    return {c['id']: c for c in content['categories'] if isinstance(c, dict) and _is_whole(c.get('id'))}


def check_people(content: dict) -> People:
    """Sort the annotations of a file.

    An annotation is usable if it has a unique id, an image of :func:`usable_images`, a category of the file and a box.
    Other fields are completed: missing or malformed ``keypoints`` become zeros with ``num_keypoints`` 0, COCO's form
    for unlabelled people, which evaluators ignore; a missing ``area`` is estimated as in MMPose. Segmentations are not
    checked here but by :func:`rnnpose_plugin.datasets.segmentation.to_rle`.

    Args:
        content (dict): COCO file.

    Returns:
        People: usable ones are copies, all with the number of keypoints that most of the file have.
    """
    images, categories = usable_images(content), usable_categories(content)
    usable: dict[int, dict] = {}
    left_out, unlabelled = Counter(), Counter()
    for annotation in content['annotations']:
        fault = _fault(annotation, usable, images, categories)
        if fault:
            left_out[fault] += 1
        else:
            usable[annotation['id']] = annotation
    faults = {number: _fault_of_joints(annotation.get('keypoints')) for number, annotation in usable.items()}
    sizes = Counter(len(usable[number]['keypoints']) for number, fault in faults.items() if fault is None)
    size = sizes.most_common(1)[0][0] if sizes else 0
    people = []
    for number, annotation in usable.items():
        fault = faults[number]
        if fault is None and len(annotation['keypoints']) != size:
            fault = 'with another number of joints than most'
        if fault:
            unlabelled[fault] += 1
            annotation = dict(annotation, keypoints=[0] * size, num_keypoints=0)
        people.append(_completed(annotation))
    return People(people, left_out, unlabelled)


def count_joints(annotation: dict, least_v: int = 1) -> int:
    """Number of labelled, or of visible, joints.

    Args:
        annotation (dict): COCO annotation.
        least_v (int): 1 counts labelled joints, 2 visible ones. Defaults to 1.

    Returns:
        int: Number of joints with at least this v; 0 without keypoints.
    """
    return sum(v >= least_v for v in annotation.get('keypoints', [])[2::3])


def counts_text(counts: Counter) -> str:
    """Counts in one line, such as ``3 without a mask, 1 without an id``.

    Args:
        counts (Counter): by reason.

    Returns:
        str: The line, empty without counts.
    """
    return ', '.join(f'{count} {reason}' for reason, count in sorted(counts.items()))


def _is_whole(value: object) -> bool:
    return isinstance(value, int)


def _fault(annotation: dict, taken: dict, images: dict, categories: dict) -> str | None:
    if not isinstance(annotation, dict) or not _is_whole(annotation.get('id')):
        return 'without an id'
    if annotation['id'] in taken:
        return 'with a duplicate id'
    if not _is_whole(annotation.get('image_id')) or annotation['image_id'] not in images:
        return 'whose image is not listed with file_name, height and width'
    if not _is_whole(annotation.get('category_id')) or annotation['category_id'] not in categories:
        return 'of an unknown category'
    if not are_numbers(annotation.get('bbox')) or len(annotation['bbox']) != 4:
        return 'whose box is not four numbers'
    return None


def _fault_of_joints(keypoints: list | None) -> str | None:
    if keypoints is None or keypoints == []:
        return 'without keypoints'
    return None if are_numbers(keypoints) and len(keypoints) % 3 == 0 else 'whose keypoints are not triples of numbers'


def _completed(annotation: dict) -> dict:
    width, height = annotation['bbox'][2:]
    guess = max(0.53 * width * height, 1.0)  # MMPose's, for files without areas
    area, labelled = annotation.get('area'), annotation.get('num_keypoints')
    known = isinstance(area, (int, float)) and 0 <= area < float('inf')
    return dict(
        annotation,
        iscrowd=1 if annotation.get('iscrowd') else 0,
        num_keypoints=labelled if _is_whole(labelled) else count_joints(annotation),
        area=area if known else guess,
    )
