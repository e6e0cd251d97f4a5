"""Videos of CrowdBench's people, who walk and move their limbs, with their identities.

A person swings between two poses. Some walk through the image from one side to the other, the others turn round at its
borders; who is nearer to the camera stays the same. Coordinates as in ``projects.crowdbench``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from projects.crowdbench.crowd_scene import PlacedPerson, joint_flags, owner_map
from projects.crowdbench.stick_drawing import person_silhouette
from projects.crowdbench.stick_person import Clothes, StickPerson, sample_clothes, sample_person
from projects.crowdbench.synthetic_crowd import CROWDBENCH, annotate, paint

FPS = 25
SPEED = (0.4, 2.0)  # px per frame; a person of 80 px who walks at 1.4 m/s makes 2.5
PERIOD = (20, 50)  # frames from one pose to the other and back


@dataclass(frozen=True)
class MovingPerson:
    """A person of a video.

    Args:
        poses: The two poses, both centred on (0, 0).
        start: (2,) float, the centre in frame 0.
        speed: (2,) float, pixels per frame.
        period: Frames from a pose to itself.
        phase: Share of the period at frame 0.
        turns: Whether the person turns round at the border.
    """

    poses: tuple[StickPerson, StickPerson]
    start: np.ndarray
    speed: np.ndarray
    period: float
    phase: float
    turns: bool

    def at(self, frame: int) -> StickPerson:
        """The person in a frame.

        Args:
            frame: From 0.

        Returns:
            In pixels of the image, or outside it.
        """
        first, second = self.poses
        share = 0.5 - 0.5 * np.cos(2 * np.pi * (frame / self.period + self.phase))
        joints = (1 - share) * first.joints + share * second.joints
        head = (1 - share) * first.head_centre + share * second.head_centre
        roll = (1 - share) * first.head_roll + share * second.head_roll
        centre = self.start + frame * self.speed
        if self.turns:  # a triangle wave between 15 and 85 % of the image
            low, room = 0.15 * CROWDBENCH.image_size, 0.7 * CROWDBENCH.image_size
            centre = low + room - np.abs((centre - low) % (2 * room) - room)
        return replace(first, joints=joints, head_centre=head, head_roll=roll).moved(centre)


def sample_people(rng: np.random.Generator, number: int) -> list[MovingPerson]:
    """Draw the people of a video; three of four wear the colours of another one, as in CrowdBench.

    Args:
        rng: Random stream, advanced.
        number: Of people.

    Returns:
        Back to front.
    """
    people: list[MovingPerson] = []
    for _ in range(number):
        clothes = sample_clothes(rng)
        if people and rng.uniform() < CROWDBENCH.same_clothes_fraction:
            other = people[rng.integers(len(people))].poses[0].clothes
            clothes = clothes._replace(shirt=other.shirt, trousers=other.trousers)
        people.append(_sample(rng, clothes))
    return people


def _sample(rng: np.random.Generator, clothes: Clothes) -> MovingPerson:
    size = CROWDBENCH.image_size
    height = rng.uniform(*CROWDBENCH.heights('plain'))
    poses = tuple(sample_person(rng, height, 10.0, clothes) for _ in range(2))
    turns, side = rng.uniform() < 0.6, rng.choice([-1, 1])
    speed = np.array([-side * rng.uniform(*SPEED), rng.uniform(-0.2, 0.2)])
    start = rng.uniform(0.2, 0.8, 2) * size
    if not turns:  # comes in from one side
        start[0] = size / 2 + side * size * rng.uniform(0.5, 1.0)
    return MovingPerson(poses, start, speed, rng.uniform(*PERIOD), rng.uniform(), turns)


def draw_video(seed: int, number: int, frames: int) -> Iterator[tuple[np.ndarray, list[dict]]]:
    """Draw a video; the same arguments give the same frames.

    Args:
        seed: Of the video, 0 or more.
        number: Of people, at least 1.
        frames: Of the video.

    Yields:
        The frame, (H, W, 3) uint8 BGR, and a COCO annotation for each person in it, with the ``identity``;
        ``num_keypoints`` is 0 where too little of the person is visible to be counted.
    """
    people = sample_people(np.random.default_rng((seed, 0)), number)
    for frame in range(frames):
        placed = [(index, _placed(person.at(frame))) for index, person in enumerate(people)]
        placed = [(index, one) for index, one in placed if one.silhouette.any()]
        image = paint(np.random.default_rng((seed, 1)), [one for _, one in placed], CROWDBENCH)
        yield image, _annotations(placed)


def _placed(person: StickPerson) -> PlacedPerson:
    silhouette = person_silhouette(person, CROWDBENCH.image_size)
    y, x = np.nonzero(silhouette)
    box = (int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1) if len(x) else (0, 0, 0, 0)
    return PlacedPerson(person, silhouette, box)


def _annotations(placed: list[tuple[int, PlacedPerson]]) -> list[dict]:
    if not placed:
        return []
    people = [one for _, one in placed]
    owners = owner_map(people)
    annotations = []
    for number, ((identity, one), annotation) in enumerate(zip(placed, annotate(people)), start=1):
        visible = owners == number
        legible = visible.sum() >= CROWDBENCH.min_visible * one.silhouette.sum()
        legible &= (joint_flags(one, visible) == 2).sum() >= CROWDBENCH.min_visible_joints
        legible &= annotation['num_keypoints'] >= CROWDBENCH.min_labelled_joints
        annotations.append(dict(annotation, identity=identity, **({} if legible else dict(num_keypoints=0))))
    return annotations
