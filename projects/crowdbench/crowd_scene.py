"""Arranging people in one image: the settings, where people may stand, and who covers whom.

A pixel belongs to whoever covers its centre. All coordinates are pixel index coordinates of the final image, in which
the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from .stick_drawing import person_silhouette
from .stick_person import Clothes, StickPerson, sample_clothes, sample_person

SCENES = ('plain', 'occluded', 'crowded')
JOINT_RADIUS = 1.5  # px around a joint that decide whether it is visible
_REACH = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), -1).reshape(-1, 2)  # px offsets that hold the disc
_PLACES = 60  # places tried for one person before the whole image is begun anew
_SCENES = 40  # beginnings before giving up


@dataclass(frozen=True)
class CrowdSettings:
    """What the images look like.

    Args:
        image_size: Side of the square images in pixels, at least 48.
        min_people: Fewest people in a plain or occluded image (the latter hold at least 2).
        max_people: Most people in such an image.
        min_height: Least standing height of a person as a fraction of the image side.
        max_height: Greatest standing height, likewise.
        max_tilt: People are turned by up to this many degrees either way, 0..90.
        occluded_fraction: Probability that an image of ``train`` or ``val`` holds an occluded pair, 0..1.
        crowded_fraction: Probability that it is crowded instead, 0..1.
        crowded_min_people: Fewest people in a crowded image, who stand wherever they like.
        crowded_max_people: Most people in a crowded image.
        crowded_min_height: As ``min_height``, in a crowded image.
        crowded_max_height: As ``max_height``, in a crowded image.
        plain_max_iou: Greatest IoU of any two boxes in an image without an occluded pair.
        occluded_min_iou: The boxes of an occluded pair have a greater IoU than this.
        truncated_fraction: Probability that a person is placed without regard to the image border, 0..1.
        same_clothes_fraction: Probability that a person wears the colours of another one in the image, 0..1.
        min_visible: Least visible fraction of everybody's silhouette within the image, 0..1.
        min_visible_joints: Fewest joints of flag 2 of everybody, 0..17.
        min_labelled_joints: Fewest joints of everybody inside the image, 0..17.
        max_clutter: Most plain shapes in a background.

    Raises:
        ValueError: If a value is out of range or two of them contradict each other.
    """

    image_size: int = 64
    min_people: int = 1
    max_people: int = 3
    min_height: float = 0.6
    max_height: float = 0.95
    max_tilt: float = 20.0
    occluded_fraction: float = 0.4
    crowded_fraction: float = 0.0
    crowded_min_people: int = 6
    crowded_max_people: int = 12
    crowded_min_height: float = 0.35
    crowded_max_height: float = 0.55
    plain_max_iou: float = 0.3
    occluded_min_iou: float = 0.5
    truncated_fraction: float = 0.2
    same_clothes_fraction: float = 0.3
    min_visible: float = 0.15
    min_visible_joints: int = 5
    min_labelled_joints: int = 8
    max_clutter: int = 4

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_pairs()

    def _check_ranges(self) -> None:
        """Refuse values that make no sense by themselves."""
        ranges = dict(image_size=(48, 4096), min_people=(1, 50), max_people=(1, 50), min_height=(0.2, 2),
                      max_height=(0.2, 2), crowded_min_people=(1, 50), crowded_max_people=(1, 50),
                      crowded_min_height=(0.2, 2), crowded_max_height=(0.2, 2), max_tilt=(0, 90),
                      max_clutter=(0, 1000), min_visible_joints=(0, 17), min_labelled_joints=(0, 17))  # fmt: skip
        fractions = ('occluded_fraction', 'crowded_fraction', 'plain_max_iou', 'occluded_min_iou',
                     'truncated_fraction', 'same_clothes_fraction', 'min_visible')  # fmt: skip
        for name, (low, high) in {**ranges, **dict.fromkeys(fractions, (0, 1))}.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f'{name} is {value}: choose a value from {low} to {high}.')
            if isinstance(getattr(type(self), name), int) and not isinstance(value, int):
                raise ValueError(f'{name} is {value}: choose a whole number.')

    def _check_pairs(self) -> None:
        """Refuse values that contradict each other."""
        pairs = ('min_people', 'max_people'), ('min_height', 'max_height')
        for least, most in (*pairs, *((f'crowded_{least}', f'crowded_{most}') for least, most in pairs)):
            low, high = getattr(self, least), getattr(self, most)
            if low > high:
                raise ValueError(f'{least} {low} is greater than {most} {high}: lower {least} or raise {most}.')
        if self.max_people < 2 and self.occluded_fraction > 0:
            raise ValueError(
                f'occluded_fraction is {self.occluded_fraction} but max_people is {self.max_people}: '
                'set occluded_fraction to 0 or max_people to 2 or more.'
            )
        if self.occluded_fraction + self.crowded_fraction > 1:
            raise ValueError(
                f'occluded_fraction {self.occluded_fraction} and crowded_fraction {self.crowded_fraction} are more '
                'than 1 together: lower one of them.'
            )

    def heights(self, scene: str) -> tuple[float, float]:
        """Least and greatest standing height in an image.

        Args:
            scene: One of ``SCENES``.

        Returns:
            Both in pixels.
        """
        low, high = self.min_height, self.max_height
        if scene == 'crowded':
            low, high = self.crowded_min_height, self.crowded_max_height
        return low * self.image_size, high * self.image_size


class PlacedPerson(NamedTuple):
    """A person in an image.

    Args:
        person: Pose and clothes, in pixel index coordinates of the image.
        silhouette: (H, W) bool, pixels the person covers if nobody stands in front.
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
    """Tell who is seen at each pixel.

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
    """Tell which joints of a person can be seen.

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
    """Whether enough of everybody can be seen."""
    owners = owner_map(people)
    for index, placed in enumerate(people):
        visible = owners == index + 1
        if visible.sum() < max(1, settings.min_visible * placed.silhouette.sum()):
            return False
        if (joint_flags(placed, visible) == 2).sum() < settings.min_visible_joints:
            return False
    return True


def _sample_clothes(rng: np.random.Generator, people: list[PlacedPerson], settings: CrowdSettings) -> Clothes:
    """New colours, or those of somebody already there, so that colour does not always tell people apart."""
    clothes = sample_clothes(rng)
    if people and rng.uniform() < settings.same_clothes_fraction:
        other = people[rng.integers(len(people))].person.clothes
        clothes = clothes._replace(shirt=other.shirt, trousers=other.trousers)
    return clothes


def _anywhere(rng: np.random.Generator, person: StickPerson, settings: CrowdSettings) -> np.ndarray:
    """A centre (2,) that keeps the person within the image if it fits, or mostly so for truncated people."""
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
    """A person of similar size in the place of the only other one."""
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


def _overlaps_as_wanted(new: PlacedPerson, people: list[PlacedPerson], scene: str, settings: CrowdSettings) -> bool:
    """The second person of an occluded image forms the pair, later ones and crowds may stand anywhere; else nobody is
    close.
    """
    ious = [_iou(new.box, other.box) for other in people]
    if scene == 'plain':
        return all(iou <= settings.plain_max_iou for iou in ious)
    return scene == 'crowded' or len(people) != 1 or ious[0] > settings.occluded_min_iou


def _add_person(
    rng: np.random.Generator, people: list[PlacedPerson], scene: str, settings: CrowdSettings
) -> list[PlacedPerson] | None:
    """The people and one more at a random depth, or None where no place was found."""
    sample = _sample_close if scene == 'occluded' and len(people) == 1 else _sample_free
    for _ in range(_PLACES):
        new = _place(sample(rng, people, scene, settings), settings)
        if new is None or not _overlaps_as_wanted(new, people, scene, settings):
            continue
        depth = rng.integers(len(people) + 1)
        crowd = [*people[:depth], new, *people[depth:]]
        if _is_legible(crowd, settings):
            return crowd
    return None


def _fill_scene(rng: np.random.Generator, count: int, scene: str, settings: CrowdSettings) -> list[PlacedPerson] | None:
    """That many people, back to front, or None where somebody found no place."""
    people: list[PlacedPerson] | None = []
    while people is not None and len(people) < count:
        people = _add_person(rng, people, scene, settings)
    return people


def sample_crowd(rng: np.random.Generator, scene: str, settings: CrowdSettings) -> list[PlacedPerson]:
    """Draw the people of one image.

    Args:
        rng: Random stream, advanced.
        scene: ``'plain'`` keeps everybody apart, ``'occluded'`` makes two overlap heavily, ``'crowded'`` lets
            ``crowded_min_people`` to ``crowded_max_people`` stand wherever they like.
        settings: What the images look like; ``max_people`` must be 2 or more where two overlap.

    Returns:
        People, back to front.

    Raises:
        ValueError: If the scene is unknown.
        RuntimeError: If the settings leave no place for that many people.
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
        f'{count} people found no place in {_SCENES} attempts: lower {prefix}max_people {most} or {prefix}max_height '
        f'{settings.heights(scene)[1] / settings.image_size:g}, or loosen the IoU limits.'
    )
