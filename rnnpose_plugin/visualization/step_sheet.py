from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

COLOURS = plt.get_cmap('tab10').colors


@dataclass
class DecodedImage:
    """One image and what was decoded from it.

    Args:
        title (str): written over the image.
        image (np.ndarray): (h, w, 3) uint8, RGB.
        heatmaps (np.ndarray): (n, K, H, W), step by step.
        to_image (np.ndarray): (2, 3), the affine map from heatmap cells to pixels of the image.
        keypoints (np.ndarray): (n, K, 2), pixels of the image.
        keypoint_scores (np.ndarray): (n, K); a joint of score 0 is not drawn.
        scores (np.ndarray): (n,), instance scores.
    """

    title: str
    image: np.ndarray
    heatmaps: np.ndarray
    to_image: np.ndarray
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    scores: np.ndarray


def draw_step_sheet(
    images: Sequence[DecodedImage], skeleton: Sequence[tuple[int, int]], path: str, max_steps: int = 5
) -> None:
    """One row per image: the input, each step's heatmaps with the pose read from them, and all poses.

    Args:
        images (Sequence[DecodedImage]): at least one.
        skeleton (Sequence[tuple[int, int]]): pairs of keypoint indices that are joined by a line.
        path (str): where the PNG goes.
        max_steps (int): later steps are not shown. Defaults to 5.

    Raises:
        ValueError: if there is no image.
    """
    if not images:
        raise ValueError('There is no image to draw.')
    steps = max(1, min(max_steps, max(len(decoded.heatmaps) for decoded in images)))
    figure, axes = plt.subplots(len(images), steps + 2, figsize=(2.2 * (steps + 2), 2.35 * len(images)), squeeze=False)
    for row, decoded in zip(axes, images):
        _draw_row(row, decoded, skeleton, steps)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_row(row: np.ndarray, decoded: DecodedImage, skeleton: Sequence[tuple[int, int]], steps: int) -> None:
    row[0].imshow(decoded.image)
    row[0].set_title(decoded.title, fontsize=8)
    for step in range(min(steps, len(decoded.heatmaps))):
        axis = row[1 + step]
        axis.imshow(_overlay(decoded, step))
        _draw_pose(axis, decoded, step, skeleton, 'white', 1.0)
        axis.set_title(f'step {step + 1}, score {decoded.scores[step]:.2f}', fontsize=8)
    row[-1].imshow(decoded.image)
    for person in range(len(decoded.keypoints)):
        _draw_pose(row[-1], decoded, person, skeleton, COLOURS[person % len(COLOURS)], 2.0)
    row[-1].set_title(f'all poses: {len(decoded.keypoints)}', fontsize=8)
    for axis in row:
        axis.set_xlim(-0.5, decoded.image.shape[1] - 0.5)
        axis.set_ylim(decoded.image.shape[0] - 0.5, -0.5)


def _overlay(decoded: DecodedImage, step: int) -> np.ndarray:
    """The image, darkened, with the maximum over the step's heatmaps in colour on it."""
    height, width = decoded.image.shape[:2]
    peak = np.clip(decoded.heatmaps[step].max(axis=0), 0, 1).astype(np.float32)
    heat = cv2.warpAffine(peak, decoded.to_image, (width, height), flags=cv2.INTER_LINEAR)[..., None]
    return (0.35 * decoded.image / 255) * (1 - heat) + plt.get_cmap('inferno')(heat[..., 0])[..., :3] * heat


def _draw_pose(axis, decoded: DecodedImage, person: int, skeleton, colour, width: float) -> None:
    points, shown = decoded.keypoints[person], decoded.keypoint_scores[person] > 0
    for a, b in skeleton:
        if shown[a] and shown[b]:
            axis.plot(*points[[a, b]].T, color=colour, linewidth=width, alpha=0.9)
    axis.scatter(*points[shown].T, s=4 * width, color=[colour], zorder=3)
