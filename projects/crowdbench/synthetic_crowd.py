"""Synthetic crowds: drawn people over clutter with COCO annotations, a pure function of a seed and settings.

Each image shows one or more people, painted back to front. Labels are exact:

- Joints are in pixel index coordinates, the centre of the top-left pixel being (0, 0), rounded to 2 decimals.
- Flag 2 (visible): at least half of the person's own pixels whose centres lie within ``JOINT_RADIUS`` pixels of the
  joint are not covered by a nearer person. Flag 1: inside the image, covered by a nearer person. Flag 0: outside the
  image, then x = y = 0. A body part does not hide joints of its own person.
- ``bbox`` is the box (x, y, width, height; COCO's edge coordinates) of the amodal silhouette clipped to the image,
  ``segmentation`` the visible mask, ``area`` its pixel count. A pixel belongs to the nearest person that covers its
  centre.

Splits: ``train`` and ``val`` mix the three kinds of images that ``plain`` (no heavy overlap), ``occluded`` (each with a
pair of people whose boxes overlap heavily) and ``crowded`` (many small people) consist of.

``CROWDBENCH`` and ``CROWDBENCH_COUNTS`` define CrowdBench, version 1, drawn with seed 0. Its difficulty is association:
most people share their colours with another one, limbs cross, and limbs without a person lie in the background. Other
settings would make another benchmark.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle

from rnnpose_plugin.runtime.progress import track

from .clutter import draw_background
from .crowd_scene import JOINT_RADIUS, PlacedPerson, joint_flags, owner_map, sample_crowd
from .crowd_settings import CrowdSettings
from .stick_drawing import draw_person
from .stick_person import JOINT_NAMES

__all__ = [
    'CROWDBENCH',
    'CROWDBENCH_COUNTS',
    'JOINT_RADIUS',
    'SKELETON',
    'SPLITS',
    'CrowdSettings',
    'annotate',
    'draw_image',
    'paint',
    'write_crowd',
    'write_split',
]

SPLITS = ('train', 'val', 'plain', 'occluded', 'crowded')
CROWDBENCH = CrowdSettings(
    image_size=128, max_people=4, min_height=0.45, max_height=0.85, occluded_fraction=0.4, crowded_fraction=0.2,
    same_clothes_fraction=0.75, truncated_fraction=0.25, max_clutter=10,
)  # fmt: skip
CROWDBENCH_COUNTS = {'train': 4000, 'val': 200, 'plain': 500, 'occluded': 500, 'crowded': 500}
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip


def annotate(people: list[PlacedPerson]) -> list[dict]:
    """COCO annotations of an image's people.

    Args:
        people: Back to front, at least one.

    Returns:
        One for each, without ids.
    """
    owners = owner_map(people)
    return [_annotation(placed, owners == index + 1) for index, placed in enumerate(people)]


def _annotation(placed: PlacedPerson, visible: np.ndarray) -> dict:
    """COCO annotation of one person."""
    flags = joint_flags(placed, visible)
    joints = np.where(flags[:, None] > 0, np.round(placed.person.joints, 2), 0.0).tolist()
    encoded = rle.encode(np.asfortranarray(visible, np.uint8))
    return dict(
        category_id=1,
        iscrowd=0,
        keypoints=[number for joint, xy in enumerate(joints) for number in (*xy, int(flags[joint]))],
        num_keypoints=int((flags > 0).sum()),
        bbox=[float(value) for value in placed.box],
        area=int(visible.sum()),
        segmentation=dict(size=list(encoded['size']), counts=encoded['counts'].decode('ascii')),
    )


def paint(rng: np.random.Generator, people: list[PlacedPerson], settings: CrowdSettings) -> np.ndarray:
    """Draw people over a background; averaging the fine canvas smooths all edges.

    Args:
        rng: Random stream of background and brightness, advanced.
        people: Back to front.
        settings: Of the images.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = draw_background(rng, settings.image_size, settings.max_clutter)
    for placed in people:
        draw_person(canvas, placed.person)
    image = cv2.resize(canvas, (settings.image_size, settings.image_size), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(image, alpha=rng.uniform(0.75, 1.05), beta=rng.uniform(0, 20))


def _at_least(name: str, value: int, least: int) -> None:
    """Refuse a number that is too small."""
    if value < least:
        raise ValueError(f'The {name} is {value}: choose {least} or more.')


def _check_request(seed: int, split: str, settings: CrowdSettings) -> None:
    """Refuse requests that cannot be drawn."""
    _at_least('seed', seed, 0)
    if split not in SPLITS:
        raise ValueError(f"The split is '{split}': choose one of {', '.join(SPLITS)}.")
    if split == 'occluded' and settings.max_people < 2:
        raise ValueError(f"max_people is {settings.max_people}: the split 'occluded' needs 2 or more.")


def draw_image(seed: int, split: str, index: int, settings: CrowdSettings) -> tuple[np.ndarray, list[dict]]:
    """Draw one image; the same arguments always give the same bytes, whatever was drawn before.

    Args:
        seed: 0 or more.
        split: One of ``SPLITS``.
        index: Number of the image within its split, 0 or more.
        settings: Of the images.

    Returns:
        The image, (H, W, 3) uint8 BGR, and the COCO annotations of its people, back to front, without ``id`` and
        ``image_id``. Joints are in pixel index coordinates, boxes in COCO's edge coordinates.

    Raises:
        ValueError: If the seed or the index is negative, the split unknown, or it needs more people than allowed.
        RuntimeError: If that many people do not fit.
    """
    _check_request(seed, split, settings)
    _at_least('index', index, 0)
    rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), index)))
    chance = rng.uniform()
    scene = split
    if split in ('train', 'val'):
        limits = settings.occluded_fraction, settings.occluded_fraction + settings.crowded_fraction
        scene = 'occluded' if chance < limits[0] else 'crowded' if chance < limits[1] else 'plain'
    people = sample_crowd(rng, scene, settings)
    return paint(rng, people, settings), annotate(people)


def _category() -> dict:
    """The COCO category of all annotations."""
    skeleton = [list(bone) for bone in SKELETON]
    return dict(id=1, name='person', supercategory='person', keypoints=list(JOINT_NAMES), skeleton=skeleton)


def _save_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG or raise an OSError with the reason; cv2.imwrite would only return False."""
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())


def _save_json(path: Path, content: dict) -> None:
    """Write a JSON file that is either complete or absent."""
    unfinished = path.with_name(path.name + '.tmp')
    unfinished.write_text(json.dumps(content, separators=(',', ':')), encoding='ascii')
    os.replace(unfinished, path)


def _write_images(folder: Path, split: str, count: int, seed: int, settings: CrowdSettings, run: Callable) -> dict:
    """Draw and save the images of a split, by a function like ``map``, and return its JSON content."""
    title = 'CrowdBench' if (settings, seed) == (CROWDBENCH, 0) else 'Synthetic crowd'
    content = dict(
        info=dict(
            description=f'{title}, split {split}, seed {seed}', version='1', settings=dataclasses.asdict(settings)
        ),
        licenses=[], images=[], annotations=[], categories=[_category()],
    )  # fmt: skip
    draw = partial(_draw_and_save, folder, seed, split, settings)
    drawn = run(draw, range(count))
    for index in track(range(count), f'images of {split}'):
        image, people = next(drawn)
        content['images'].append(dict(id=index + 1, **image))
        for person in people:
            content['annotations'].append(dict(id=len(content['annotations']) + 1, image_id=index + 1, **person))
    return content


def _draw_and_save(folder: Path, seed: int, split: str, settings: CrowdSettings, index: int) -> tuple[dict, list[dict]]:
    """Draw and save one image; its name and size, and its people."""
    image, people = draw_image(seed, split, index, settings)
    name = f'{index + 1:06d}.png'
    _save_image(folder / name, image)
    return dict(file_name=name, width=image.shape[1], height=image.shape[0]), people


def write_split(
    out: str | Path, split: str, count: int, seed: int, settings: CrowdSettings, run: Callable = map
) -> Path:
    """Write ``<out>/<split>/000001.png`` and so on, then ``<out>/annotations/<split>.json``; report progress on stderr.

    The JSON file comes last, and one of an earlier run is removed first, so that its presence means that the split is
    complete. Files of the same name are overwritten, others are not touched.

    Args:
        out: Folder, created if missing.
        split: One of ``SPLITS``.
        count: Number of images, 1 or more.
        seed: 0 or more.
        settings: Of the images.
        run: Draws the images in order, ``map`` or ``imap`` of a pool of processes, which changes nothing in the files.

    Returns:
        Path of the JSON file.

    Raises:
        ValueError: If the seed is negative, the split unknown, the count below 1, or the split needs more people.
        RuntimeError: If that many people do not fit.
        OSError: If a file cannot be written.
    """
    _check_request(seed, split, settings)
    _at_least(f"count of the split '{split}'", count, 1)
    folder, path = Path(out) / split, Path(out) / 'annotations' / f'{split}.json'
    for needed in (folder, path.parent):
        needed.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    _save_json(path, _write_images(folder, split, count, seed, settings, run))
    return path


def write_crowd(
    out: str | Path, counts: dict[str, int], seed: int, settings: CrowdSettings, processes: int = 1
) -> list[Path]:
    """Write several splits.

    Args:
        out: Folder, created if missing.
        counts: Number of images by split; splits with 0 are not touched.
        seed: 0 or more.
        settings: Of the images.
        processes: That draw, 1 or more; they change nothing in the files.

    Returns:
        Paths of the JSON files.

    Raises:
        ValueError: If the seed or a count is negative, a split unknown, or one needs more people; nothing is written.
        RuntimeError: If that many people do not fit.
        OSError: If a file cannot be written.
    """
    wanted = {split: count for split, count in counts.items() if count != 0}
    for split, count in wanted.items():
        _check_request(seed, split, settings)
        _at_least(f"count of the split '{split}'", count, 0)
    _at_least('number of processes', processes, 1)
    with nullcontext() if processes == 1 else get_context('spawn').Pool(processes) as pool:
        run = pool.imap if pool else map
        return [write_split(out, split, count, seed, settings, run) for split, count in wanted.items()]
