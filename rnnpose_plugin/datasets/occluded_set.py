"""A test set of occlusions, made of the people of one COCO keypoint file: the job of ``tools/make_occluded.py``.

Each picture of the set is one of the file's, with one person pasted over another (``occlusion.occlude``), so a file of
a val split gives people of that split only. Everybody else on it stays, and all annotations are updated. Crowd regions
stay crowd regions; people without joints stay people with ``num_keypoints`` 0, whom evaluators ignore. Beside COCO's
fields each image has ``source`` and ``donor`` (files it was made of) and ``pair`` (ids of the target and of the pasted
person).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np
from mmengine.logging import print_log
from mmengine.utils import ProgressBar

from .copy_paste import check_iou
from .donors import Donors, load_picture
from .keypoint_file import check_people, count_joints, counts_text, read_keypoint_file, usable_categories
from .occlusion import Occlusion, occlude

MIN_KEYPOINTS = 5  # labelled joints of a target and visible ones of a donor: fewer say little about a pose
MAX_TRIES = 50  # draws for a picture before the next one is taken
JPEG_QUALITY = 95
SIDES = ('left', 'right')


def write_occluded_set(
    annotations: str,
    images: str,
    out: str | Path,
    iou: tuple[float, float] = (0.5, 0.75),
    count: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write ``<out>/images/000001.jpg`` and so on, then ``<out>/annotations/occluded.json``.

    The same arguments give the same bytes. Pictures are taken in a random order, and again from the first one, with
    other pairs, where more are wanted than there are. One in which somebody would vanish wholly is drawn anew. The
    JSON file comes last, and one of an earlier run is removed first, so that its presence means that the set is
    complete. Files of the same name are overwritten, others are left alone. Annotations that nothing can be made of are
    left out (``keypoint_file.check_people``); how many, and why, is logged.

    Args:
        annotations: A COCO keypoint file with segmentations.
        images: Folder of its images.
        out: Folder, made where missing.
        iou: Least and greatest IoU of the boxes of a pair, 0 < least <= greatest < 1.
        count: Number of pictures, 1 or more; by default as many as have somebody to cut out.
        seed: 0 or more.
        progress: True shows a bar on stderr.

    Returns:
        Path of the JSON file.

    Raises:
        ValueError: If an argument is out of range, pictures would be written over those that are read, or the file is
            no COCO file, has nobody to cut out or nobody to paste them over.
        RuntimeError: If a pair of such an IoU can be made on no picture.
        OSError: If a file cannot be read or written.
    """
    check_iou(iou)
    for name, value, least in (('count', count, 1), ('seed', seed, 0)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f'{name} is {value!r}; choose {least} or more.')
    if Path(out, 'images').resolve() == Path(images).resolve():
        raise ValueError(f'{Path(out, "images")} holds the pictures that are read; write to another folder.')
    content = read_keypoint_file(annotations)
    donors = Donors(annotations, images, MIN_KEYPOINTS)
    paths = {donor.image_id: donor.path for donor in donors.people}
    sizes = {donor.image_id: donor.size for donor in donors.people}
    people = _people(content, paths, annotations)
    count = len(paths) if count is None else count
    path = _prepare(Path(out))
    written = dict(
        info=dict(description=f'Occlusions made of people of {Path(annotations).name}, seed {seed}', version='1'),
        licenses=content.get('licenses', []), images=[], annotations=[], categories=content['categories'],
    )  # fmt: skip
    bar = ProgressBar(count, file=sys.stderr) if progress else None
    for image_id, occlusion in _draw(usable_categories(content), people, donors, paths, sizes, iou, count, seed):
        name = f'{len(written["images"]) + 1:06d}.jpg'
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        path.parents[1].joinpath('images', name).write_bytes(
            cv2.imencode('.jpg', occlusion.image, options)[1].tobytes()
        )
        _add(written, name, Path(paths[image_id]).name, occlusion)
        if bar:
            bar.update()
    if bar:
        print(file=sys.stderr)  # the bar itself leaves the cursor on its line
    path.write_text(json.dumps(written, separators=(',', ':')), encoding='ascii')
    return path


def mirrored_joints(category: dict) -> list[int] | None:
    """Which joint each one becomes in a mirror, from the joints' names.

    Args:
        category: COCO category; ``keypoints`` holds names such as ``left_eye``.

    Returns:
        K indices; None without names, or where a left one has no right one.
    """
    names = category.get('keypoints') or []
    partners = [_partner(name) for name in names]
    return [names.index(partner) for partner in partners] if names and set(partners) == set(names) else None


def _partner(name: str) -> str:
    left, right = SIDES
    return name.replace(left, right) if left in name else name.replace(right, left)


def _prepare(out: Path) -> Path:
    """Make the folders; where the JSON file will stand."""
    path = out / 'annotations' / 'occluded.json'
    for folder in (out / 'images', path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _people(content: dict, paths: dict[int, str], annotations: str) -> dict[int, list[dict]]:
    """Everybody on the pictures that have a donor, by picture, who is left out being logged."""
    found = check_people(content)
    if found.left_out:
        print_log(f'{annotations}: not in the set are {counts_text(found.left_out)}.', logger='current')
    if found.unlabelled:
        print_log(f'{annotations}: in the set without joints are {counts_text(found.unlabelled)}.', logger='current')
    people = defaultdict(list)
    for person in found.usable:
        people[person['image_id']].append(person)
    labelled = [p for i in paths for p in people[i] if not p['iscrowd'] and count_joints(p) >= MIN_KEYPOINTS]
    if len(labelled) < 2:  # the donors are among them
        raise ValueError(
            f'{annotations} has 1 person with a mask and {MIN_KEYPOINTS} visible joints and nobody to paste them over; '
            'a pair takes two people, so use a file with more of them.'
        )
    return people


def _draw(
    categories: dict[int, dict],
    people: dict[int, list[dict]],
    donors: Donors,
    paths: dict[int, str],
    sizes: dict[int, tuple[int, int]],
    iou: tuple[float, float],
    count: int,
    seed: int,
) -> Iterator[tuple[int, Occlusion]]:
    """Picture after picture; each draws from a generator of its own, whatever the ones before needed."""
    flip_indices = {number: mirrored_joints(category) for number, category in categories.items()}
    size = len(donors.people[0].joints)
    order = np.random.RandomState(seed).permutation(sorted(paths)).tolist()
    turn, made, failed = 0, 0, 0
    while made < count:
        if failed == len(order):
            raise RuntimeError(
                f'on none of {failed} pictures a pair of boxes with an IoU of {iou[0]:g} to {iou[1]:g} could be made; '
                'widen --iou or use a file with more people.'
            )
        image_id = order[turn % len(order)]
        random = np.random.RandomState([seed, turn])
        turn += 1
        present, path = people[image_id], paths[image_id]
        image = load_picture(path, sizes[image_id])
        kinds = {person['category_id'] for person in present}
        mirror = flip_indices[kinds.pop()] if len(kinds) == 1 else None
        if mirror and len(mirror) != size:  # the category names other joints than its people have
            mirror = None
        occlusion = occlude(image, present, path, donors, iou, MIN_KEYPOINTS, False, MAX_TRIES, mirror, random)
        if occlusion is None or _somebody_vanished(present, occlusion.people):
            failed += 1
            continue
        made, failed = made + 1, 0
        yield image_id, occlusion


def _somebody_vanished(before: list[dict], after: list[dict]) -> bool:
    """Whether somebody has no pixel left, and so no area: no answer would be right for them."""
    return any(new is not old and not new['area'] for old, new in zip(before, after))


def _add(written: dict, name: str, source: str, occlusion: Occlusion) -> None:
    """Enter a picture and its people, with ids of this file."""
    image_id, first_id = len(written['images']) + 1, len(written['annotations']) + 1
    ids = {person['id']: first_id + i for i, person in enumerate(occlusion.people)}
    height, width = occlusion.image.shape[:2]
    written['images'].append(
        dict(
            id=image_id,
            file_name=name,
            width=width,
            height=height,
            source=source,
            donor=Path(occlusion.donor.path).name,
            pair=[ids[occlusion.target['id']], ids[occlusion.people[-1]['id']]],
        )
    )
    written['annotations'] += [dict(person, id=ids[person['id']], image_id=image_id) for person in occlusion.people]
