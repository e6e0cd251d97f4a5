"""One articulated 2-D person with the 17 COCO joints: sampling its pose and clothes.

Coordinates are pixel index coordinates of the final image: the centre of the top-left pixel is (0, 0), x runs to the
right and y down. People face the camera, hence the left side of an upright body is on the right of the image.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from typing import NamedTuple, Tuple

import numpy as np

JOINT_NAMES = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder', 'left_elbow',
    'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle',
    'right_ankle',
)  # fmt: skip
HEAD_HALF_SIZE = (0.075, 0.1)  # across and along, in body heights; a little large, so that faces stay legible

Colour = Tuple[int, int, int]


class Clothes(NamedTuple):
    """Colours of one person, each a BGR triple of 0..255.

    Args:
        skin: Head, neck, forearms and hands.
        hair: Cap of the head.
        shirt: Torso and upper arms.
        trousers: Pelvis and legs.
        shoes: Feet.
    """

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour


@dataclass(frozen=True)
class StickPerson:
    """A posed and dressed person.

    Args:
        joints: (17, 2) float, in the order of ``JOINT_NAMES``, pixel index coordinates; may lie outside the image.
        head_centre: (2,) float, centre of the head's ellipse, same frame.
        head_roll: Rotation of the head in degrees, positive turns clockwise as seen in the image.
        height: Nominal standing height in pixels, which sets all widths.
        clothes: Colours.
    """

    joints: np.ndarray
    head_centre: np.ndarray
    head_roll: float
    height: float
    clothes: Clothes

    def moved(self, offset: np.ndarray) -> StickPerson:
        """Shift the person.

        Args:
            offset: (2,) float, pixels.

        Returns:
            A shifted copy.
        """
        return replace(self, joints=self.joints + offset, head_centre=self.head_centre + offset)


def hsv_colour(hue: float, saturation: float, value: float) -> Colour:
    """Convert a colour.

    Args:
        hue: Any float, its fractional part counts.
        saturation: 0..1.
        value: 0..1.

    Returns:
        BGR triple of 0..255.
    """
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return int(255 * blue), int(255 * green), int(255 * red)


def sample_clothes(rng: np.random.Generator) -> Clothes:
    """Draw plausible colours.

    Args:
        rng: Random stream, advanced.

    Returns:
        Colours of one person.
    """
    tone = rng.uniform()
    return Clothes(
        skin=hsv_colour(rng.uniform(0.03, 0.09), 0.3 + 0.3 * tone, 0.95 - 0.5 * tone),
        hair=hsv_colour(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.7), rng.uniform(0.08, 0.5)),
        shirt=hsv_colour(rng.uniform(), rng.uniform(0.1, 0.85), rng.uniform(0.3, 0.95)),
        trousers=hsv_colour(rng.uniform(), rng.uniform(0.05, 0.6), rng.uniform(0.15, 0.65)),
        shoes=hsv_colour(rng.uniform(), 0.2, rng.uniform(0.1, 0.9)),
    )


def _direction(degrees: float) -> np.ndarray:
    """Unit vector (2,) at an angle from straight down, positive towards the right of the image."""
    return np.array([np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))])


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate points about the origin.

    Args:
        points: (K, 2) float.
        degrees: Positive turns clockwise as seen in the image.

    Returns:
        (K, 2) float.
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return points @ np.array([[cos, sin], [-sin, cos]])


def _chain(start: np.ndarray, angles: tuple[float, float], lengths: tuple[float, float]) -> tuple:
    """End points of two bones hanging on ``start``."""
    middle = start + lengths[0] * _direction(angles[0])
    return middle, middle + lengths[1] * _direction(angles[1])


def _sample_arm(rng: np.random.Generator, shoulder: np.ndarray, side: int) -> tuple:
    """Elbow and wrist: the upper arm hangs, or is raised sideways to above the shoulder; the elbow bends both ways."""
    upper = rng.triangular(-20, 20, 120)
    lower = upper + rng.triangular(-70, 10, 90)
    shortening = rng.uniform(0.8, 1.0, 2)
    return _chain(shoulder, (side * upper, side * lower), (0.18 * shortening[0], 0.17 * shortening[1]))


def _sample_leg(rng: np.random.Generator, hip: np.ndarray, side: int) -> tuple:
    """Knee and ankle: the thigh opens outwards, the shin mostly comes back towards the vertical."""
    thigh = rng.triangular(-8, 6, 40)
    shin = thigh + rng.triangular(-60, -5, 12)
    shortening = rng.uniform(0.75, 1.0, 2)
    return _chain(hip, (side * thigh, side * shin), (0.24 * shortening[0], 0.23 * shortening[1]))


def _sample_trunk(rng: np.random.Generator) -> tuple:
    """(neck, left and right shoulder, left and right hip) around a mid-hip at the origin, in body heights."""
    neck = 0.31 * rng.uniform(0.8, 1.0) * _direction(180 + rng.uniform(-10, 10))
    shoulder = 0.115 * rng.uniform(0.75, 1.05) * _direction(90 + rng.uniform(-10, 10))
    hip = 0.068 * rng.uniform(0.8, 1.1) * _direction(90 + rng.uniform(-6, 6))
    return neck, neck + shoulder, neck - shoulder, hip, -hip


def _sample_face(rng: np.random.Generator, neck: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Face joints (5, 2), centre (2,) and roll of the head; turning the head shifts eyes and nose sideways."""
    turn, roll = rng.uniform(-0.35, 0.35), rng.uniform(-18, 18)
    centre = neck + 0.135 * _direction(180 - 0.5 * roll)
    eyes_x, ears_x = 0.4, 1.0 - 0.1 * abs(turn)
    units = np.array([
        [1.1 * turn, 0.18], [turn + eyes_x, -0.2], [turn - eyes_x, -0.2],
        [ears_x - 0.25 * turn, -0.05], [-ears_x - 0.25 * turn, -0.05],
    ])  # fmt: skip
    return centre + turned(units * HEAD_HALF_SIZE, roll), centre, roll


def sample_person(rng: np.random.Generator, height: float, max_tilt: float, clothes: Clothes) -> StickPerson:
    """Draw a pose.

    Args:
        rng: Random stream, advanced.
        height: Nominal standing height in pixels.
        max_tilt: The body is turned by up to this many degrees either way.
        clothes: Colours.

    Returns:
        A person whose joints' bounding box is centred on (0, 0).
    """
    neck, left_shoulder, right_shoulder, left_hip, right_hip = _sample_trunk(rng)
    face, head, roll = _sample_face(rng, neck)
    left_elbow, left_wrist = _sample_arm(rng, left_shoulder, 1)
    right_elbow, right_wrist = _sample_arm(rng, right_shoulder, -1)
    left_knee, left_ankle = _sample_leg(rng, left_hip, 1)
    right_knee, right_ankle = _sample_leg(rng, right_hip, -1)
    body = [left_shoulder, right_shoulder, left_elbow, right_elbow, left_wrist, right_wrist]
    body += [left_hip, right_hip, left_knee, right_knee, left_ankle, right_ankle]
    tilt = rng.uniform(-max_tilt, max_tilt)
    points = height * turned(np.vstack([face, body, [head]]), tilt)
    person = StickPerson(points[:-1], points[-1], roll + tilt, height, clothes)
    return person.moved(-(person.joints.min(0) + person.joints.max(0)) / 2)
