"""Drawing people and other shapes on a canvas ``SUPERSAMPLE`` times finer than the final image.

Shapes are given in pixel index coordinates of the final image: the centre of the top-left pixel is (0, 0). The centre
of coarse pixel ``x`` lies ``x + 0.5`` pixels from the image edge, so its fine index is
``SUPERSAMPLE * (x + 0.5) - 0.5`` (not ``SUPERSAMPLE * x``: that would shift every label by a third of a pixel).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .stick_person import HEAD_HALF_SIZE, Colour, StickPerson, turned

SUPERSAMPLE = 3  # odd, so that the centre of each coarse pixel is the centre of a fine one
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV
_MIN_WIDTH = 1.6  # px; thinner limbs would miss all pixel centres and have no mask


class Shape(NamedTuple):
    """A stroke with round ends, or a filled polygon with rounded corners.

    Args:
        points: (K, 2) float, pixel index coordinates of the final image.
        width: Stroke width in pixels of the final image.
        colour: BGR triple of 0..255.
        filled: True fills the polygon through the points, False draws the open line through them.
    """

    points: np.ndarray
    width: float
    colour: Colour
    filled: bool = False


def darker(colour: Colour, factor: float = 0.45) -> Colour:
    """Darken a colour.

    Args:
        colour: BGR triple of 0..255.
        factor: 0 gives black, 1 the same colour.

    Returns:
        BGR triple of 0..255.
    """
    return tuple(int(channel * factor) for channel in colour)


def _ellipse(person: StickPerson, start: float, stop: float) -> np.ndarray:
    """Points (24, 2) on the outline of the head between two angles in degrees (0 right, 90 chin)."""
    angles = np.deg2rad(np.linspace(start, stop, 24))
    units = np.stack([np.cos(angles), np.sin(angles)], 1) * HEAD_HALF_SIZE
    return person.head_centre + turned(person.height * units, person.head_roll)


def _dot(point: np.ndarray, width: float, colour: Colour) -> Shape:
    """A disc: a stroke of length zero."""
    return Shape(point + np.zeros((2, 2)), width, colour)


def _limb(points: list, widths: tuple[float, float], colours: tuple[Colour, Colour]) -> list[Shape]:
    """Two bones, the outer one first, so that the sleeve or knee overlaps it."""
    outer = Shape(np.array(points[1:]), widths[1], colours[1])
    return [outer, Shape(np.array(points[:2]), widths[0], colours[0])]


def _leg(person: StickPerson, side: int) -> list[Shape]:
    """Shoe, shin and thigh; ``side`` is 0 for the left and 1 for the right leg."""
    hip, knee, ankle = person.joints[[11 + side, 13 + side, 15 + side]]
    height, trousers = person.height, person.clothes.trousers
    down = (ankle - knee) / max(np.hypot(*(ankle - knee)), 1e-6)
    outwards = np.array([down[1], -down[0]]) * (1 - 2 * side)
    shoe = Shape(np.array([ankle, ankle + height * (0.025 * down + 0.03 * outwards)]), 0.065 * height,
                 person.clothes.shoes)  # fmt: skip
    return [shoe, *_limb([hip, knee, ankle], (0.115 * height, 0.085 * height), (trousers, trousers))]


def _arm(person: StickPerson, side: int) -> list[Shape]:
    """Hand, forearm and sleeve; ``side`` is 0 for the left and 1 for the right arm."""
    shoulder, elbow, wrist = person.joints[[5 + side, 7 + side, 9 + side]]
    height, clothes = person.height, person.clothes
    hand = _dot(wrist, 0.075 * height, clothes.skin)
    widths = (0.085 * height, 0.065 * height)
    return [hand, *_limb([shoulder, elbow, wrist], widths, (clothes.shirt, clothes.skin))]


def _trunk(person: StickPerson) -> list[Shape]:
    """Neck, torso and pelvis."""
    joints, height, clothes = person.joints, person.height, person.clothes
    neck = np.array([person.head_centre, (joints[5] + joints[6]) / 2])
    return [
        Shape(neck, 0.065 * height, clothes.skin),
        Shape(joints[[5, 6, 12, 11]], 0.085 * height, clothes.shirt, filled=True),
        Shape(joints[[11, 12]], 0.115 * height, clothes.trousers),
    ]


def _head(person: StickPerson) -> list[Shape]:
    """Ears and face."""
    skin, height = person.clothes.skin, person.height
    ears = [_dot(person.joints[joint], 0.045 * height, skin) for joint in (3, 4)]
    return [*ears, Shape(_ellipse(person, 0, 345), 0.0, skin, filled=True)]


def _face(person: StickPerson) -> list[Shape]:
    """Hair, eyes and nose, which lie within the head and get no outline."""
    skin, height, joints = person.clothes.skin, person.height, person.joints
    hair = Shape(_ellipse(person, 205, 335), 0.0, person.clothes.hair, filled=True)
    eyes = [_dot(joints[joint], 0.034 * height, (25, 20, 20)) for joint in (1, 2)]
    ears = [_dot(joints[joint], 0.02 * height, darker(skin, 0.65)) for joint in (3, 4)]
    return [hair, *eyes, *ears, _dot(joints[0], 0.036 * height, darker(skin, 0.6))]


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Final pixel index coordinates to OpenCV's fixed-point ones on the fine canvas, (1, K, 2) int32."""
    fine = SUPERSAMPLE * (np.asarray(points) + 0.5) - 0.5
    return np.rint(fine * (1 << _SHIFT)).astype(np.int32)[None]


def draw_shape(canvas: np.ndarray, shape: Shape, outline: float = 0.0, colour: Colour | int | None = None) -> None:
    """Paint a shape.

    Args:
        canvas: (S, S, 3) or (S, S) uint8, S being ``SUPERSAMPLE`` times the image side; painted in place.
        shape: What to paint.
        outline: The shape grows by this many pixels of the final image on each side.
        colour: Used in place of the shape's colour where given.
    """
    colour = shape.colour if colour is None else colour
    points = _fixed_point(shape.points)
    width = shape.width + 2 * outline
    if shape.filled:
        cv2.fillPoly(canvas, points, colour, shift=_SHIFT)
    if width > 0:
        thickness = max(1, round(SUPERSAMPLE * width))
        cv2.polylines(canvas, points, shape.filled, colour, thickness, shift=_SHIFT)


def draw_group(canvas: np.ndarray, shapes: list[Shape], outline: float) -> None:
    """Paint shapes that share one darker outline, so that no line crosses a knee or an elbow.

    Args:
        canvas: (S, S, 3) uint8, painted in place.
        shapes: Painted in this order.
        outline: Width of the outline in pixels of the final image; 0 paints none.
    """
    for shape in shapes if outline > 0 else []:
        draw_shape(canvas, shape, outline, darker(shape.colour))
    for shape in shapes:
        draw_shape(canvas, shape)


def _outline(person: StickPerson) -> float:
    """Width of the outline in pixels of the final image."""
    return min(max(0.012 * person.height, 0.34), 0.67)


def _body(person: StickPerson) -> list[list[Shape]]:
    """Groups with a common outline, back to front; arms and head come last, so that no joint hides behind the torso."""
    groups = [_leg(person, 0), _leg(person, 1), _trunk(person), _arm(person, 0), _arm(person, 1), _head(person)]
    return [[shape._replace(width=_legible(shape)) for shape in group] for group in groups]


def _legible(shape: Shape) -> float:
    """Width of a shape, held at a minimum for strokes."""
    return shape.width if shape.filled else max(shape.width, _MIN_WIDTH)


def draw_person(canvas: np.ndarray, person: StickPerson) -> None:
    """Paint a person.

    Args:
        canvas: (S, S, 3) uint8 BGR, S being ``SUPERSAMPLE`` times the image side; painted in place.
        person: The person; parts outside the canvas are clipped.
    """
    for group in _body(person):
        draw_group(canvas, group, _outline(person))
    draw_group(canvas, _face(person), 0.0)


def person_silhouette(person: StickPerson, image_size: int) -> np.ndarray:
    """Pixels of the final image of a whole person, outline and occluded parts included.

    Args:
        person: The person.
        image_size: Side of the final image in pixels.

    Returns:
        (image_size, image_size) bool; a pixel counts when its centre is covered.
    """
    side = SUPERSAMPLE * image_size
    canvas = np.zeros((side, side), np.uint8)
    for shape in (shape for group in _body(person) for shape in group):
        draw_shape(canvas, shape, _outline(person), 1)
    middle = SUPERSAMPLE // 2
    return canvas[middle::SUPERSAMPLE, middle::SUPERSAMPLE].astype(bool)
