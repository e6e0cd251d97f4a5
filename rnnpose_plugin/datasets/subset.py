"""A few images of a COCO annotation file as an annotation file of their own."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path


def choose_clear_images(annotations: str, number: int) -> list[int]:
    """Images of several people of whom everyone is large and labelled, the clearest first.

    A picture qualifies with 2 to 4 people, at least 5 labelled joints on each, and no crowd region; the larger its
    smallest person is in relation to the picture, the clearer it is.

    Args:
        annotations (str): a COCO keypoint file.
        number (int): how many.

    Returns:
        list[int]: image ids.

    Raises:
        ValueError: if there are fewer.
    """
    data = json.loads(Path(annotations).read_text())
    people = defaultdict(list)
    for annotation in data['annotations']:
        people[annotation['image_id']].append(annotation)
    sides = {image['id']: max(image['width'], image['height']) for image in data['images']}
    clearness = {
        image: min(person['area'] ** 0.5 for person in group) / sides[image]
        for image, group in people.items()
        if 2 <= len(group) <= 4 and all(p['num_keypoints'] >= 5 and not p['iscrowd'] for p in group)
    }
    if len(clearness) < number:
        raise ValueError(
            f'{annotations} has {len(clearness)} pictures of 2 to 4 people with 5 labelled joints each, but {number} '
            'were asked for; ask for fewer or use a larger file.'
        )
    return sorted(clearness, key=clearness.get, reverse=True)[:number]


def write_subset(annotations: str, image_ids: list[int], out: Path) -> None:
    """Write the chosen images and their annotations.

    Args:
        annotations (str): a COCO file.
        image_ids (list[int]): which images.
        out (Path): the JSON to write; its folder is made.
    """
    data = json.loads(Path(annotations).read_text())
    data['images'] = [image for image in data['images'] if image['id'] in image_ids]
    data['annotations'] = [a for a in data['annotations'] if a['image_id'] in image_ids]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data))
