"""Arranging people in one image: allowed positions, and which person occludes which.

A pixel belongs to the nearest person that covers its centre. All coordinates are pixel index coordinates of the final
image, in which the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .crowd_settings import SCENES, CrowdSettings
from .stick_drawing import person_silhouette
from .stick_person import Clothes, StickPerson, sample_clothes, sample_person

JOINT_RADIUS = 1.5  # px; the pixels within it decide whether a joint is visible
_REACH = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), -1).reshape(-1, 2)  # px offsets that hold the disc
_PLACES = 60  # positions tried for one person before the image is started anew
_SCENES = 40  # attempts per image


class PlacedPerson(NamedTuple):
    """A person in an image.

    Args:
        person: Pose and clothes, in pixel index coordinates of the image.
        silhouette: (H, W) bool, pixels of the whole person, occluded ones included.
        box: x, y, width, height of the silhouette in pixels, x and y being the first column and row covered.
    """

    person: StickPerson
    silhouette: np.ndarray
    box: tuple[int, int, int, int]


def _box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Box (x, y, width, height) of a mask, all zero where it is empty."""
    return tuple(int(value) for value in cv2.boundingRect(mask.view(np.uint8)))


def _iou(first: tuple, second: tuple) -> float:
    """IoU of two boxes (x, y, width, height) that are not both empty."""
    overlaps = [min(first[k] + first[k + 2], second[k] + second[k + 2]) - max(first[k], second[k]) for k in (0, 1)]
    shared = max(overlaps[0], 0) * max(overlaps[1], 0)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def _inside(joints: np.ndarray, image_size: int) -> np.ndarray:
    """(17,) bool, whether a rounded joint lies between the centres of the image's outermost pixels."""
    joints = np.round(joints, 2)
    return ((joints >= 0) & (joints <= image_size - 1)).all(1)


def owner_map(people: list[PlacedPerson]) -> np.ndarray:
    """The visible person at each pixel.

    Args:
        people: At least one person, back to front.

    Returns:
        (H, W) uint8, one more than the index of the nearest person at each pixel, 0 for background.
    """
    owners = np.zeros(people[0].silhouette.shape, np.uint8)
    for index, placed in enumerate(people):
        owners[placed.silhouette] = index + 1
    return owners


def joint_flags(placed: PlacedPerson, visible: np.ndarray) -> np.ndarray:
    """Which joints of a person are visible.

    Args:
        placed: The person.
        visible: (H, W) bool mask of the person's visible pixels.

    Returns:
        (17,) int COCO flags: 2 if at least half of the person's own pixels whose centres lie within ``JOINT_RADIUS``
        of the joint are visible, 1 if fewer are, 0 if the joint is outside the image.
    """
    joints, size = np.round(placed.person.joints, 2), len(visible)
    pixels = np.rint(joints)[:, None] + _REACH
    near = np.hypot(*np.moveaxis(pixels - joints[:, None], -1, 0)) <= JOINT_RADIUS
    near &= ((pixels >= 0) & (pixels < size)).all(-1)
    x, y = np.moveaxis(pixels.clip(0, size - 1).astype(int), -1, 0)
    own = (near & placed.silhouette[y, x]).sum(1)
    seen = (near & visible[y, x]).sum(1)
    return np.where(_inside(joints, size), np.where(2 * seen >= own, 2, 1), 0)


def _is_legible(people: list[PlacedPerson], settings: CrowdSettings) -> bool:
    """Whether enough of every person is visible."""
    owners = owner_map(people)
    for index, placed in enumerate(people):
        visible = owners == index + 1
        if visible.sum() < max(1, settings.min_visible * placed.silhouette.sum()):
            return False
        if (joint_flags(placed, visible) == 2).sum() < settings.min_visible_joints:
            return False
    return True


def _sample_clothes(rng: np.random.Generator, people: list[PlacedPerson], settings: CrowdSettings) -> Clothes:
    """New colours, or those of another person, so that colour does not always separate people."""
    clothes = sample_clothes(rng)
    if people and rng.uniform() < settings.same_clothes_fraction:
        other = people[rng.integers(len(people))].person.clothes
        clothes = clothes._replace(shirt=other.shirt, trousers=other.trousers)
    return clothes


def _anywhere(rng: np.random.Generator, person: StickPerson, settings: CrowdSettings) -> np.ndarray:
    """A centre (2,) with the person inside the image if it fits, anywhere for truncated people."""
    size = settings.image_size
    if rng.uniform() < settings.truncated_fraction:
        return rng.uniform(0, size - 1, 2)
    # the head's top and the feet reach beyond the outermost joints
    room = np.maximum(size - 1 - 2 * np.abs(person.joints).max(0) - 0.12 * person.height, 0)
    return (size - 1) / 2 + rng.uniform(-0.5, 0.5, 2) * room


def _sample_free(
    rng: np.random.Generator, people: list[PlacedPerson], scene: str, settings: CrowdSettings
) -> StickPerson:
    """A person anywhere in the image."""
    height = rng.uniform(*settings.heights(scene))
    person = sample_person(rng, height, settings.max_tilt, _sample_clothes(rng, people, settings))
    return person.moved(_anywhere(rng, person, settings))


def _sample_close(
    rng: np.random.Generator, people: list[PlacedPerson], scene: str, settings: CrowdSettings
) -> StickPerson:
    """A person of similar size at the position of the only other one."""
    (other,) = people
    height = float(np.clip(other.person.height * rng.uniform(0.8, 1.25), *settings.heights(scene)))
    person = sample_person(rng, height, settings.max_tilt, _sample_clothes(rng, people, settings))
    joints = other.person.joints
    spread = joints.max(0) - joints.min(0)
    return person.moved((joints.min(0) + joints.max(0)) / 2 + rng.uniform(-0.3, 0.3, 2) * spread)


def _place(person: StickPerson, settings: CrowdSettings) -> PlacedPerson | None:
    """Rasterise a person, or None if too much of it is outside the image."""
    if _inside(person.joints, settings.image_size).sum() < settings.min_labelled_joints:
        return None
    silhouette = person_silhouette(person, settings.image_size)
    return PlacedPerson(person, silhouette, _box_of(silhouette))


def _has_wanted_overlap(new: PlacedPerson, people: list[PlacedPerson], scene: str, settings: CrowdSettings) -> bool:
    """Whether the boxes overlap as the scene requires: never by much if plain, the first two if occluded."""
    ious = [_iou(new.box, other.box) for other in people]
    if scene == 'plain':
        return all(iou <= settings.plain_max_iou for iou in ious)
    return scene == 'crowded' or len(people) != 1 or ious[0] > settings.occluded_min_iou


def _add_person(
    rng: np.random.Generator, people: list[PlacedPerson], scene: str, settings: CrowdSettings
) -> list[PlacedPerson] | None:
    """The people and one more at a random depth, or None if no position was found."""
    sample = _sample_close if scene == 'occluded' and len(people) == 1 else _sample_free
    for _ in range(_PLACES):
        new = _place(sample(rng, people, scene, settings), settings)
        if new is None or not _has_wanted_overlap(new, people, scene, settings):
            continue
        depth = rng.integers(len(people) + 1)
        crowd = [*people[:depth], new, *people[depth:]]
        if _is_legible(crowd, settings):
            return crowd
    return None


def _fill_scene(rng: np.random.Generator, count: int, scene: str, settings: CrowdSettings) -> list[PlacedPerson] | None:
    """``count`` people, back to front, or None if one of them found no position."""
    people: list[PlacedPerson] | None = []
    while people is not None and len(people) < count:
        people = _add_person(rng, people, scene, settings)
    return people


def sample_crowd(rng: np.random.Generator, scene: str, settings: CrowdSettings) -> list[PlacedPerson]:
    """Draw the people of one image.

    Args:
        rng: Random stream, advanced.
        scene: ``'plain'`` keeps people apart, ``'occluded'`` makes two overlap heavily, ``'crowded'`` places
            ``crowded_min_people`` to ``crowded_max_people`` anywhere.
        settings: Of the images; ``max_people`` must be 2 or more for ``'occluded'``.

    Returns:
        People, back to front.

    Raises:
        ValueError: If the scene is unknown.
        RuntimeError: If that many people do not fit.
    """
    if scene not in SCENES:
        raise ValueError(f"The scene is '{scene}': choose one of {', '.join(SCENES)}.")
    least, most = max(settings.min_people, 2 if scene == 'occluded' else 1), settings.max_people
    if scene == 'crowded':
        least, most = settings.crowded_min_people, settings.crowded_max_people
    count = int(rng.integers(least, most + 1))
    for _ in range(_SCENES):
        people = _fill_scene(rng, count, scene, settings)
        if people:
            return people
    prefix = 'crowded_' if scene == 'crowded' else ''
    raise RuntimeError(
        f'{count} people did not fit in {_SCENES} attempts: lower {prefix}max_people {most} or {prefix}max_height '
        f'{settings.heights(scene)[1] / settings.image_size:g}, or loosen the IoU limits.'
    )
