"""The people of an annotation file as COCO's evaluation needs them, whatever tool wrote the file.

pycocotools takes annotation id 0 (xtcocotools: any below 0) for "unmatched" and a person with a NaN area for matched by
any pose, and averages over all categories that the file lists. Plain Python on COCO's own records.
"""

from __future__ import annotations

import math
from collections.abc import Container
from numbers import Real

CATEGORY = dict(id=1, name='person')  # metrics write poses with category 1
BOX_SHARE = 0.53  # area of a person by its box, as in MMPose and xtcocotools


def is_person(annotation: dict) -> bool:
    """Whether an annotation is a person to detect: with a labelled joint, and not a crowd region.

    Args:
        annotation (dict): COCO's.

    Returns:
        bool: True for a person.
    """
    return not annotation.get('iscrowd', 0) and _labelled(annotation) > 0


def annotations_of(sample: dict) -> list[dict]:
    """The annotations of an image.

    Args:
        sample (dict): a data sample; ``raw_ann_info`` is one annotation, several, or missing.

    Returns:
        list[dict]: those of the file.
    """
    annotations = sample.get('raw_ann_info') or []
    return [annotations] if isinstance(annotations, dict) else list(annotations)


def clean_truth(content: dict, image_ids: Container | None = None, use_area: bool = True) -> dict:
    """The images and people of an annotation file, with every field that COCO's evaluation reads.

    People are all annotations of the categories in which a joint is labelled, as MMPose's data sets read them. They get
    the ids 1, 2, ... and category 1. People without ``keypoints`` get unlabelled joints, so that COCO ignores them.

    Args:
        content (dict): of the file; not changed.
        image_ids (Container, optional): only these images. Defaults to None, all.
        use_area (bool): see :func:`area_of`. Defaults to True.

    Returns:
        dict: ``images``, ``annotations`` and ``categories``.
    """
    annotations = content.get('annotations') or []
    kinds = {a['category_id'] for a in annotations if _labelled(a)} or {a['category_id'] for a in annotations}
    length = max((len(a.get('keypoints') or ()) for a in annotations), default=0)
    people = [
        a
        for a in annotations
        if a['category_id'] in kinds and a.get('bbox') and (image_ids is None or a['image_id'] in image_ids)
    ]
    images = [image for image in content['images'] if image_ids is None or image['id'] in image_ids]
    cleaned = [_clean(person, number, length, use_area) for number, person in enumerate(people, start=1)]
    return dict(images=images, annotations=cleaned, categories=[dict(CATEGORY)])


def area_of(person: dict, use_area: bool = True) -> float:
    """The area that scales a person's OKS.

    Args:
        person (dict): annotation with ``bbox`` and ``keypoints``.
        use_area (bool): take ``area`` where :func:`has_area` holds. Otherwise, and elsewhere, 0.53 of the box, and for
            a person whose box has no extent 0.53 of that of its joints.
            Defaults to True.

    Returns:
        float: square pixels; 0 if the person has neither area nor extent, and OKS is 0 for all but the exact pose.
    """
    if use_area and has_area(person):
        return person['area']
    box = person['bbox'][3] * person['bbox'][2] * BOX_SHARE
    if not is_person(person) or min(person['bbox'][2:]) > 0:
        return box
    joints = person['keypoints']
    labelled = [(x, y) for x, y, v in zip(joints[::3], joints[1::3], joints[2::3]) if v > 0]
    width, height = (max(values) - min(values) for values in zip(*labelled))
    return width * height * BOX_SHARE


def has_area(person: dict) -> bool:
    """Whether a person's ``area`` can scale its OKS.

    Args:
        person (dict): annotation.

    Returns:
        bool: False for an area that is missing, no finite number or negative, and for 0 of a person to detect.
    """
    area = person.get('area')
    if not isinstance(area, Real) or not math.isfinite(area):
        return False
    return area > 0 or (area == 0 and not is_person(person))


def _clean(person: dict, number: int, length: int, use_area: bool) -> dict:
    cleaned = dict(person, id=number, category_id=CATEGORY['id'], iscrowd=int(bool(person.get('iscrowd'))))
    cleaned['keypoints'] = person.get('keypoints') or [0] * length
    # 0 of people without a visible joint is CrowdPose's sign for ignoring them.
    ignored = person.get('num_keypoints') == 0 and 2 not in cleaned['keypoints'][2::3]
    cleaned['num_keypoints'] = 0 if ignored else _labelled(cleaned)
    cleaned['area'] = area_of(cleaned, use_area)
    return cleaned


def _labelled(annotation: dict) -> int:
    return sum(v > 0 for v in (annotation.get('keypoints') or ())[2::3])
