"""Backgrounds of synthetic crowds: gradients, blotches, and distractors in the colours and shapes of people."""

from __future__ import annotations

import cv2
import numpy as np

from .stick_drawing import SUPERSAMPLE, Shape, draw_group, draw_shape
from .stick_person import Colour, hsv_colour, sample_clothes


def _sample_colour(rng: np.random.Generator) -> Colour:
    """Half of the distractors have the colours of clothes, so that colour alone does not identify people."""
    if rng.uniform() < 0.5:
        return sample_clothes(rng)[rng.integers(5)]
    return hsv_colour(rng.uniform(), rng.uniform(0, 0.7), rng.uniform(0.15, 0.95))


def _gradient(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) float32 ramp between four corner colours."""
    corners = np.array([_sample_colour(rng) for _ in range(4)], np.float32).reshape(2, 2, 3)
    mean = corners.mean((0, 1))
    calm = mean + 0.5 * (corners - mean)
    return cv2.resize(calm, (side, side), interpolation=cv2.INTER_LINEAR)


def _blotches(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) float32 smooth noise around zero."""
    cells = int(rng.integers(6, 25))
    noise = rng.normal(0, rng.uniform(3, 22), (cells, cells, 3)).astype(np.float32)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)


def _box(rng: np.random.Generator, image_size: int) -> Shape:
    """A rectangle anywhere."""
    centre = rng.uniform(0, image_size, 2)
    half = rng.uniform(0.03, 0.22, 2) * image_size
    corners = centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return Shape(corners, 0.0, _sample_colour(rng), filled=True)


def _oval(rng: np.random.Generator, image_size: int) -> Shape:
    """An ellipse anywhere, often the size of a head."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    units = np.stack([np.cos(angles), np.sin(angles)], 1)
    half = rng.triangular(0.02, 0.05, 0.2, 2) * image_size
    return Shape(rng.uniform(0, image_size, 2) + units * half, 0.0, _sample_colour(rng), filled=True)


def _ring(rng: np.random.Generator, image_size: int) -> Shape:
    """A circle line anywhere."""
    oval = _oval(rng, image_size)
    return oval._replace(points=np.vstack([oval.points, oval.points[:1]]), width=rng.uniform(0.5, 2.0), filled=False)


def _line(rng: np.random.Generator, image_size: int) -> Shape:
    """A straight line anywhere."""
    return Shape(rng.uniform(0, image_size, (2, 2)), rng.uniform(0.5, 3.0), _sample_colour(rng))


def _limb(rng: np.random.Generator, image_size: int) -> list[Shape]:
    """Two joined strokes with the proportions of a limb, without a person."""
    start = rng.uniform(0, image_size, 2)
    steps = rng.normal(0, 0.09 * image_size, (2, 2))
    middle, width = start + steps[0], rng.uniform(0.02, 0.055) * image_size
    lower = Shape(np.array([middle, middle + steps[1]]), 0.8 * width, _sample_colour(rng))
    return [lower, Shape(np.array([start, middle]), width, _sample_colour(rng))]


def draw_background(rng: np.random.Generator, image_size: int, max_clutter: int) -> np.ndarray:
    """Draw a background.

    Args:
        rng: Random stream, advanced.
        image_size: Side of the final image in pixels.
        max_clutter: 0 to this many plain shapes, and up to half as many limb-like ones, are drawn.

    Returns:
        (S, S, 3) uint8 BGR with S = ``SUPERSAMPLE * image_size``.
    """
    side = SUPERSAMPLE * image_size
    canvas = _gradient(rng, side) + _blotches(rng, side)
    canvas = np.clip(canvas, 0, 255).astype(np.uint8)
    makers = (_box, _oval, _ring, _line)
    for _ in range(rng.integers(max_clutter + 1)):
        draw_shape(canvas, makers[rng.integers(len(makers))](rng, image_size))
    for _ in range(rng.integers(max_clutter // 2 + 1)):
        draw_group(canvas, _limb(rng, image_size), 0.5)
    return canvas
