"""Plots of two models side by side, and the pictures on which they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

COLOURS = ('tab:blue', 'tab:orange')
PEOPLE = plt.get_cmap('tab10').colors
NOBODY = 'white'
SURPLUS_COLUMNS = 5  # of the count confusion, beyond the most people there are


@dataclass
class Picture:
    """A picture with what is there and what two models found.

    Args:
        path (str): image file.
        people (list[dict]): COCO's annotations.
        poses (Sequence[list[dict]]): each model's detections, in COCO's format.
        persons (list[dict[int, int]]): for each model, the person of each pose that has one.
        scores (list[float]): each model's agreement with the truth.
    """

    path: str
    people: list[dict]
    poses: Sequence[list[dict]]
    persons: list[dict[int, int]]
    scores: list[float]


def plot_bands(models: Sequence[dict], path: str) -> None:
    """AP by crowding, with the number of people of each band.

    Args:
        models (Sequence[dict]): from ``Results.as_data``.
        path (str): the PNG.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    bands = list(zip(*(model['bands'] for model in models)))
    width = 0.8 / len(models)
    for number, (model, colour) in enumerate(zip(models, COLOURS)):
        places = np.arange(len(bands)) + (number - (len(models) - 1) / 2) * width
        values = [band['AP'] for band in model['bands']]
        bars = axis.bar(places, [100 * (value or 0) for value in values], 0.94 * width, color=colour)
        bars.set_label(model['name'])
        axis.bar_label(bars, ['–' if value is None else f'{100 * value:.1f}' for value in values], fontsize=8)
    labels = ['/'.join(dict.fromkeys(str(band['people']) for band in row)) for row in bands]
    axis.set_xticks(range(len(bands)), [f'{row[0]["band"]}\n{people} people' for row, people in zip(bands, labels)])
    axis.set_xlabel('highest box IoU with another person of the picture')
    axis.set_ylabel('AP, %')
    axis.set_ylim(0, 100)
    axis.legend(loc='upper right', frameon=False)
    _save(figure, path)


def plot_latency(models: Sequence[dict], path: str) -> None:
    """Median time for a picture by the number of people in it: in all, and without decoding.

    Args:
        models (Sequence[dict]): from ``Results.as_data``.
        path (str): the PNG.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for model, colour in zip(models, COLOURS):
        rows = model['latency_by_people']
        people = [row['people'] for row in rows]
        axis.plot(people, [1000 * row['total'] for row in rows], 'o-', color=colour, label=f'{model["name"]}, total')
        times = [1000 * row['network'] for row in rows]
        axis.plot(people, times, 'x--', color=colour, alpha=0.7, label=f'{model["name"]}, network')
    rows = models[0]['latency_by_people']
    axis.set_xticks([row['people'] for row in rows], [f'{row["people"]}\n({row["pictures"]})' for row in rows])
    axis.set_xlabel('people in the picture (number of such pictures)')
    axis.set_ylabel('median, ms per picture')
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def plot_counts(models: Sequence[dict], path: str) -> None:
    """Numbers of pictures by how many people are there and how many were found.

    Args:
        models (Sequence[dict]): from ``Results.as_data``.
        path (str): the PNG.
    """
    matrices = [np.array(model['counts']['confusion']) for model in models]
    height, highest_count = np.max([matrix.shape for matrix in matrices], axis=0)
    width = min(highest_count, height + SURPLUS_COLUMNS)
    matrices = [_fitted(matrix, height, width) for matrix in matrices]
    highest = max(1, max(matrix.max() for matrix in matrices))
    size = (len(models) * (0.42 * width + 1.1), 0.42 * height + 1.2)
    figure, axes = plt.subplots(1, len(models), figsize=np.maximum(size, (6, 2.6)), sharey=True)
    for axis, matrix, model in zip(axes, matrices, models):
        axis.imshow(matrix, cmap='Blues', vmin=0, vmax=highest)
        for true, found in np.argwhere(matrix):
            colour = 'white' if matrix[true, found] > 0.6 * highest else 'black'
            axis.text(found, true, matrix[true, found], ha='center', va='center', fontsize=8, color=colour)
        for number in range(min(height, width)):
            axis.add_patch(plt.Rectangle((number - 0.5, number - 0.5), 1, 1, fill=False, color='grey', linewidth=0.8))
        last = f'{width - 1}+' if highest_count > width else width - 1
        axis.set_xticks(range(width), [*range(width - 1), last])
        axis.set_yticks(range(height))
        axis.tick_params(labelsize=8)
        axis.set_title(f'{model["name"]}: {100 * model["counts"]["right"]:.0f} % right', fontsize=10)
        axis.set_xlabel('people found')
    axes[0].set_ylabel('people there')
    _save(figure, path)


def draw_disagreements(
    pictures: Sequence[Picture], names: Sequence[str], skeleton: Sequence[tuple[int, int]], path: str
) -> None:
    """One row for each picture: the truth and each model's poses.

    A person and the pose that fits it best have one colour; surplus poses are thin and white.

    Args:
        pictures (Sequence[Picture]): there may be none.
        names (Sequence[str]): of the models.
        skeleton (Sequence[tuple[int, int]]): pairs of keypoint indices that are joined by a line.
        path (str): the PNG.
    """
    rows = max(1, len(pictures))
    figure, axes = plt.subplots(rows, 1 + len(names), figsize=(2.7 * (1 + len(names)), 2.9 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    if not pictures:
        axes[0, 0].text(0, 0.5, 'They agree on every picture.')
    for row, picture in zip(axes, pictures):
        image = cv2.imread(picture.path)
        titles = [f'{Path(picture.path).name}: {len(picture.people)} there']
        titles += [
            f'{name}: {len(poses)} poses, {score:.2f}'
            for name, poses, score in zip(names, picture.poses, picture.scores)
        ]
        truth = [(person, PEOPLE[i % len(PEOPLE)]) for i, person in enumerate(picture.people)]
        columns = [truth]
        for poses, persons in zip(picture.poses, picture.persons):
            columns.append(
                [(p, PEOPLE[persons[i] % len(PEOPLE)] if i in persons else NOBODY) for i, p in enumerate(poses)]
            )
        for axis, title, people in zip(row, titles, columns):
            axis.set_title(title, fontsize=9)
            _draw_people(axis, image, people, skeleton)
    _save(figure, path)


def _fitted(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """As large as asked for; whatever has no column of its own goes into the last."""
    fitted = np.zeros((height, max(width, matrix.shape[1])), dtype=int)
    fitted[: matrix.shape[0], : matrix.shape[1]] = matrix
    return np.column_stack([fitted[:, : width - 1], fitted[:, width - 1 :].sum(axis=1)])


def _draw_people(axis, image: np.ndarray, people: Sequence[tuple[dict, object]], skeleton) -> None:
    axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), alpha=0.75)
    # Surplus poses first, so that the others lie on them.
    for person, colour in sorted(people, key=lambda pair: pair[1] != NOBODY):
        joints = np.reshape(person['keypoints'], (-1, 3))
        shown = joints[:, 2] > 0
        width = 0.6 if colour == NOBODY else 1.8
        for a, b in skeleton:
            if shown[a] and shown[b]:
                axis.plot(*joints[[a, b], :2].T, color=colour, linewidth=width)
        axis.scatter(*joints[shown, :2].T, s=5 * width, color=[colour], edgecolors='black', linewidths=0.3, zorder=3)
    axis.set_xlim(-0.5, image.shape[1] - 0.5)
    axis.set_ylim(image.shape[0] - 0.5, -0.5)


def _save(figure, path: str) -> None:
    figure.tight_layout(pad=0.6)
    figure.savefig(path, dpi=100)
    plt.close(figure)
