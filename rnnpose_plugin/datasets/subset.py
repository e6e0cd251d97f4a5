"""A subset of a COCO annotation file."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from .keypoint_file import check_people, count_joints, read_keypoint_file, usable_images


def choose_clear_images(annotations: str, number: int, least_joints: int = 5) -> list[int]:
    """Images of 2 to 4 people, each with enough labelled joints, and without crowd regions.

    They are sorted by the size of the smallest person relative to the image, largest first.

    Args:
        annotations (str): a COCO keypoint file.
        number (int): of images.
        least_joints (int): labelled joints that each person needs. Defaults to 5.

    Returns:
        list[int]: image ids.

    Raises:
        ValueError: if the file has fewer of them.
    """
    data = read_keypoint_file(annotations)
    people = defaultdict(list)
    for annotation in check_people(data).usable:  # completed, for files without area, iscrowd or num_keypoints
        people[annotation['image_id']].append(annotation)
    sides = {number: max(image['width'], image['height']) for number, image in usable_images(data).items()}
    sizes = {
        image: min(person['area'] ** 0.5 for person in group) / sides[image]
        for image, group in people.items()
        if 2 <= len(group) <= 4 and all(count_joints(p) >= least_joints and not p['iscrowd'] for p in group)
    }
    if len(sizes) < number:
        raise ValueError(
            f'{annotations} has {len(sizes)} images of 2 to 4 people with {least_joints} labelled joints each, but '
            f'{number} are needed; choose a smaller number or a larger file.'
        )
    return sorted(sizes, key=sizes.get, reverse=True)[:number]


def write_subset(annotations: str, image_ids: list[int], out: Path) -> None:
    """Write the chosen images and their annotations, completed as by ``keypoint_file.check_people``.

    Args:
        annotations (str): a COCO file.
        image_ids (list[int]): of the images to keep.
        out (Path): the JSON to write; its folder is created.
    """
    data = read_keypoint_file(annotations)
    data['images'] = [image for image in data['images'] if image['id'] in image_ids]
    data['annotations'] = [a for a in check_people(data).usable if a['image_id'] in image_ids]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data))
