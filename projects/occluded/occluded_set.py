"""A test set of occlusions, made of the people of one COCO keypoint file: the job of ``tools/make_occluded.py``.

Each image of the set is one of the file's, with one person pasted over another (``occlusion.occlude``), so a file of a
val split gives people of that split only. All other people of the image stay, and all annotations are updated. Crowd
regions stay crowd regions; people without joints stay people with ``num_keypoints`` 0, which evaluators ignore. Beside
COCO's fields each image has ``source`` and ``donor`` (names of the two image files) and ``pair`` (ids of the target and
of the pasted person).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmengine.logging import print_log

from rnnpose_plugin.datasets.donors import Donors, load_image
from rnnpose_plugin.datasets.keypoint_file import (
    check_people,
    count_joints,
    counts_text,
    read_keypoint_file,
    usable_categories,
    usable_images,
)
from rnnpose_plugin.datasets.occlusion import LabelledImage, Occlusion, OcclusionSettings, occlude
from rnnpose_plugin.runtime.output_files import refuse_overwriting
from rnnpose_plugin.runtime.progress import track

MIN_KEYPOINTS = 5  # labelled joints of a target and visible ones of a donor; fewer hardly define a pose
MAX_TRIES = 50  # draws per image
JPEG_QUALITY = 95
SIDES = ('left', 'right')


class _Source(NamedTuple):
    content: dict
    donors: Donors
    files: dict[int, tuple[str, tuple[int, int]]]  # path and size of the images with a donor, by image id
    people: dict[int, list[dict]]  # by image id
    flip_indices: dict[int, list[int] | None]  # by category id


def write_occluded_set(
    annotations: str,
    images: str,
    out: str | Path,
    iou: tuple[float, float] = (0.5, 0.75),
    count: int | None = None,
    seed: int = 0,
) -> Path:
    """Write ``<out>/images/000001.jpg`` and so on, then ``<out>/annotations/occluded.json``; report progress on stderr.

    The same arguments give the same bytes. Images are taken in a random order, and again from the first one, with other
    pairs, if more are wanted than there are. An image in which a person would be wholly covered is drawn anew. The JSON
    file is written last, and one of an earlier run is removed first, so that its presence means that the set is
    complete. Files of the same name are overwritten, others are not touched. Unusable annotations are left out
    (``keypoint_file.check_people``) and their number is logged by fault.

    Args:
        annotations: A COCO keypoint file with segmentations.
        images: Folder of its images.
        out: Folder, created if missing.
        iou: Least and greatest IoU of the boxes of a pair, 0 < least <= greatest < 1.
        count: Number of images, 1 or more; by default the number of images with a donor.
        seed: 0 or more.

    Returns:
        Path of the JSON file.

    Raises:
        ValueError: If an argument is out of range, the output would overwrite a file that is read, the file is not a
            COCO file, it has too few people for a pair, or no image has a pair of such an IoU.
        OSError: If a file cannot be read or written.
    """
    settings = OcclusionSettings(iou, MIN_KEYPOINTS, max_tries=MAX_TRIES)
    for name, value, least in (('count', count, 1), ('seed', seed, 0)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f'{name} is {value!r}; choose {least} or more.')
    if Path(out, 'images').resolve() == Path(images).resolve():
        raise ValueError(f'{Path(out, "images")} is the folder of the images that are read; write to another folder.')
    source = _read(annotations, images)
    count = len(source.files) if count is None else count
    targets = [Path(out, 'images', _name(number)) for number in range(1, count + 1)]
    refuse_overwriting([_path(out), *targets], [annotations, *_listed(source.content, images)])
    written = dict(
        info=dict(description=f'Occlusions made of people of {Path(annotations).name}, seed {seed}', version='1'),
        licenses=source.content.get('licenses', []),
        images=[],
        annotations=[],
        categories=source.content['categories'],
    )
    path = _prepare(Path(out))
    for image_id, occlusion in track(_draw(source, settings, count, seed), 'images', count):
        name = _name(len(written['images']) + 1)
        _save_image(Path(out, 'images', name), occlusion.image)
        _add(written, name, Path(source.files[image_id][0]).name, occlusion)
    path.write_text(json.dumps(written, separators=(',', ':')), encoding='ascii')
    return path


def _read(annotations: str, images: str) -> _Source:
    content = read_keypoint_file(annotations)
    donors = Donors(annotations, images, MIN_KEYPOINTS)
    files = {donor.image_id: (donor.path, donor.size) for donor in donors.people}
    flip_indices = {number: mirrored_joints(category) for number, category in usable_categories(content).items()}
    return _Source(content, donors, files, _people(content, files, annotations), flip_indices)


def mirrored_joints(category: dict) -> list[int] | None:
    """Index of each joint after mirroring, from the names of the joints.

    Args:
        category: COCO category; ``keypoints`` holds names such as ``left_eye``.

    Returns:
        K indices; None without names, or if a left joint has no right one.
    """
    names = category.get('keypoints')
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    partners = [_partner(name) for name in names]
    return [names.index(partner) for partner in partners] if names and set(partners) == set(names) else None


def _partner(name: str) -> str:
    left, right = SIDES
    return name.replace(left, right) if left in name else name.replace(right, left)


def _path(out: str | Path) -> Path:
    return Path(out, 'annotations', 'occluded.json')


def _name(number: int) -> str:
    return f'{number:06d}.jpg'


def _listed(content: dict, images: str) -> list[Path]:
    """All image files of the annotation file."""
    return [Path(images, image['file_name']) for image in usable_images(content).values()]


def _prepare(out: Path) -> Path:
    """Create the folders and return the path of the JSON file."""
    path = _path(out)
    for folder in (out / 'images', path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _people(content: dict, image_ids: Iterable[int], annotations: str) -> dict[int, list[dict]]:
    """People by image; unusable annotations are logged."""
    found = check_people(content)
    if found.left_out:
        print_log(f'{annotations}: left out of the set: {counts_text(found.left_out)}.', logger='current')
    if found.unlabelled:
        print_log(f'{annotations}: in the set without joints: {counts_text(found.unlabelled)}.', logger='current')
    people = defaultdict(list)
    for person in found.usable:
        people[person['image_id']].append(person)
    labelled = [p for i in image_ids for p in people[i] if not p['iscrowd'] and count_joints(p) >= MIN_KEYPOINTS]
    if len(labelled) < 2:  # the donors are among them
        raise ValueError(
            f'{annotations} has 1 person with a mask and {MIN_KEYPOINTS} visible joints, but a pair takes two people; '
            'use a file with more people.'
        )
    return people


def _draw(source: _Source, settings: OcclusionSettings, count: int, seed: int) -> Iterator[tuple[int, Occlusion]]:
    """Image ids and occlusions; each has a random generator of its own, independent of earlier failures."""
    order = np.random.RandomState(seed).permutation(sorted(source.files)).tolist()
    turn, made, failed = 0, 0, 0
    while made < count:
        if failed == len(order):
            least, greatest = settings.iou
            raise ValueError(
                f'none of {failed} images has a pair of boxes with an IoU of {least:g} to {greatest:g}; '
                'widen --iou or use a file with more people.'
            )
        image_id = order[turn % len(order)]
        occlusion = _occlude_image(source, image_id, settings, np.random.RandomState([seed, turn]))
        turn += 1
        if occlusion is None:
            failed += 1
            continue
        made, failed = made + 1, 0
        yield image_id, occlusion


def _occlude_image(
    source: _Source, image_id: int, settings: OcclusionSettings, random: np.random.RandomState
) -> Occlusion | None:
    people, (path, size) = source.people[image_id], source.files[image_id]
    categories = {person['category_id'] for person in people}
    mirror = source.flip_indices[categories.pop()] if len(categories) == 1 else None
    if mirror and len(mirror) != len(source.donors.people[0].joints):  # the category names other joints than labelled
        mirror = None
    image = LabelledImage(load_image(path, size), people, path, mirror)
    occlusion = occlude(image, source.donors, settings, random)
    return None if occlusion is None or _is_any_vanished(people, occlusion.people) else occlusion


def _is_any_vanished(before: list[dict], after: list[dict]) -> bool:
    """Whether a person has no pixel left; no prediction could be correct for them."""
    return any(new is not old and not new['area'] for old, new in zip(before, after))


def _save_image(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


def _add(written: dict, name: str, source: str, occlusion: Occlusion) -> None:
    """Add an image and its people, with new ids."""
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
