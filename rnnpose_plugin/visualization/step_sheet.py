"""Drawing a sheet of decoding steps with matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402

from ..runtime.output_files import refuse_overwriting  # noqa: E402
from .image_steps import DecodedImage  # noqa: E402

COLOURS = plt.get_cmap('tab10').colors


def check_sheet_path(path: str, sources: Iterable[str]) -> None:
    """Refuse a file that cannot be drawn, or that would replace one of those it is drawn from.

    Args:
        path (str): the file to write.
        sources (Iterable[str]): the files to read.

    Raises:
        ValueError: for a name of another format, a folder, or one of the sources.
    """
    suffix = Path(path).suffix
    if suffix[1:].lower() not in ('', *FigureCanvasAgg.get_supported_filetypes()):
        raise ValueError(f'the sheet {path} ends in {suffix}, which cannot be drawn; use .png')
    target = path if suffix else f'{path}.png'  # where matplotlib writes
    if os.path.isdir(target):
        raise ValueError(f'the sheet {path} is a folder; name a file in it')
    refuse_overwriting([target], sources)


def draw_step_sheet(images: Sequence[DecodedImage], path: str, max_steps: int = 5) -> None:
    """Draw one row per image: the input, the heatmaps of each step with the decoded pose, and all poses.

    Args:
        images (Sequence[DecodedImage]): at least one.
        path (str): the PNG to write; its folder is created.
        max_steps (int): number of steps drawn per image. Defaults to 5.

    Raises:
        ValueError: if there is no image.
    """
    if not images:
        raise ValueError('There is no image to draw; give at least one.')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    steps = max(1, min(max_steps, max(len(decoded.heatmaps) for decoded in images)))
    figure, axes = plt.subplots(len(images), steps + 2, figsize=(2.2 * (steps + 2), 2.35 * len(images)), squeeze=False)
    for row, decoded in zip(axes, images):
        _draw_row(row, decoded, steps)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_row(row: np.ndarray, decoded: DecodedImage, steps: int) -> None:
    row[0].imshow(decoded.image)
    row[0].set_title(decoded.title, fontsize=8, parse_math=False)  # $ in a file name
    for step in range(min(steps, len(decoded.heatmaps))):
        axis = row[1 + step]
        axis.imshow(_overlay(decoded, step))
        _draw_pose(axis, decoded, step, 'white', 1.0)
        axis.set_title(decoded.step_title.format(step + 1, decoded.probabilities[step]), fontsize=8)
    row[-1].imshow(decoded.image)
    for person in range(len(decoded.keypoints)):
        _draw_pose(row[-1], decoded, person, COLOURS[person % len(COLOURS)], 2.0)
    number = len(decoded.keypoints)
    row[-1].set_title(f'{number} {"person" if number == 1 else "people"}', fontsize=8)
    for axis in row:
        axis.set_xlim(-0.5, decoded.image.shape[1] - 0.5)
        axis.set_ylim(decoded.image.shape[0] - 0.5, -0.5)


def _overlay(decoded: DecodedImage, step: int) -> np.ndarray:
    """(h, w, 3) the darkened image with the maximum over the heatmaps of a step in colour."""
    height, width = decoded.image.shape[:2]
    peak = np.clip(decoded.heatmaps[step].max(axis=0), 0, 1).astype(np.float32)
    heat = cv2.warpAffine(peak, decoded.to_image, (width, height), flags=cv2.INTER_LINEAR)[..., None]
    return (0.35 * decoded.image / 255) * (1 - heat) + plt.get_cmap('inferno')(heat[..., 0])[..., :3] * heat


def _draw_pose(axis: plt.Axes, decoded: DecodedImage, person: int, colour: tuple | str, width: float) -> None:
    points, kept = decoded.keypoints[person], decoded.keypoint_scores[person] > 0
    for a, b in decoded.skeleton:
        if kept[a] and kept[b]:
            axis.plot(*points[[a, b]].T, color=colour, linewidth=width, alpha=0.9)
    axis.scatter(*points[kept].T, s=4 * width, color=[colour], zorder=3)
