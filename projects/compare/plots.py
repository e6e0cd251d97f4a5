"""Plots of two models side by side, and the images on which they disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.text import Text  # noqa: E402

COLOURS = ('tab:blue', 'tab:orange')
PEOPLE = plt.get_cmap('tab10').colors
SURPLUS = 'white'  # colour of a pose without a person
SURPLUS_COLUMNS = 5  # of the confusion matrix, beyond the largest true number of people


@dataclass
class JudgedImage:
    """An image with its people and the poses of two models.

    Args:
        path (str): image file.
        people (list[dict]): annotations in COCO's format.
        poses (Sequence[list[dict]]): each model's detections, in COCO's format.
        persons (list[dict[int, int]]): per model, index of a pose -> index of its person.
        scores (list[float]): each model's agreement with the annotations.
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
    axis.set_xlabel('highest box IoU with another person of the image')
    axis.set_ylabel('AP, %')
    axis.set_ylim(0, 100)
    axis.legend(loc='upper right', frameon=False)
    _save(figure, path)


def plot_latency(models: Sequence[dict], path: str) -> None:
    """Median time per image by number of people: in total, and of the network alone.

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
    axis.set_xticks([row['people'] for row in rows], [f'{row["people"]}\n({row["images"]})' for row in rows])
    axis.set_xlabel('people in the image (number of such images)')
    axis.set_ylabel('median, ms per image')
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def plot_counts(models: Sequence[dict], path: str) -> None:
    """Confusion matrices of the number of people per image.

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
        axis.set_title(f'{model["name"]}: {100 * model["counts"]["right"]:.0f} % correct', fontsize=10)
        axis.set_xlabel('people found')
    axes[0].set_ylabel('people in the image')
    _save(figure, path)


def draw_disagreements(
    images: Sequence[JudgedImage], names: Sequence[str], skeleton: Sequence[tuple[int, int]], path: str
) -> None:
    """One row per image: the annotations and each model's poses.

    A person and the pose that matches it best have the same colour; surplus poses are thin and white.

    Args:
        images (Sequence[JudgedImage]): may be empty.
        names (Sequence[str]): of the models.
        skeleton (Sequence[tuple[int, int]]): pairs of keypoint indices that are connected by a line.
        path (str): the PNG.
    """
    rows = max(1, len(images))
    figure, axes = plt.subplots(rows, 1 + len(names), figsize=(2.7 * (1 + len(names)), 2.9 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    if not images:
        axes[0, 0].text(0, 0.5, 'They agree on every image.')
    for row, judged in zip(axes, images):
        image = cv2.imread(judged.path)
        titles = [f'{Path(judged.path).name}: {len(judged.people)} people']
        titles += [
            f'{name}: {len(poses)} poses, {score:.2f}' for name, poses, score in zip(names, judged.poses, judged.scores)
        ]
        truth = [(person, PEOPLE[i % len(PEOPLE)]) for i, person in enumerate(judged.people)]
        columns = [truth]
        for poses, persons in zip(judged.poses, judged.persons):
            columns.append(
                [(p, PEOPLE[persons[i] % len(PEOPLE)] if i in persons else SURPLUS) for i, p in enumerate(poses)]
            )
        for axis, title, people in zip(row, titles, columns):
            axis.set_title(title, fontsize=9)
            _draw_people(axis, image, people, skeleton)
    _save(figure, path)


def _fitted(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """The matrix in the given size; further columns are added to the last."""
    fitted = np.zeros((height, max(width, matrix.shape[1])), dtype=int)
    fitted[: matrix.shape[0], : matrix.shape[1]] = matrix
    return np.column_stack([fitted[:, : width - 1], fitted[:, width - 1 :].sum(axis=1)])


def _draw_people(axis, image: np.ndarray, people: Sequence[tuple[dict, object]], skeleton) -> None:
    axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), alpha=0.75)
    # Surplus poses first, so that the others are drawn over them.
    for person, colour in sorted(people, key=lambda pair: pair[1] != SURPLUS):
        joints = np.reshape(person['keypoints'], (-1, 3))
        labelled = joints[:, 2] > 0
        width = 0.6 if colour == SURPLUS else 1.8
        for a, b in skeleton:
            if labelled[a] and labelled[b]:
                axis.plot(*joints[[a, b], :2].T, color=colour, linewidth=width)
        axis.scatter(*joints[labelled, :2].T, s=5 * width, color=[colour], edgecolors='black', linewidths=0.3, zorder=3)
    axis.set_xlim(-0.5, image.shape[1] - 0.5)
    axis.set_ylim(image.shape[0] - 0.5, -0.5)


def _save(figure, path: str) -> None:
    for text in figure.findobj(Text):  # names of models and files may have a $
        text.set_parse_math(False)
    figure.tight_layout(pad=0.6)
    figure.savefig(path, dpi=100)
    plt.close(figure)
