"""Predicted people drawn into copies of images and of videos."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from mmpose.visualization import PoseLocalVisualizer

from .prediction_inputs import Images, Video

DRAWN = 'drawn'  # below the folder of the predictions
GOLDEN_RATIO = 0.618034  # its multiples are spread over [0, 1) however many there are


class Drawing:
    """Copies of images with their people; those of a video become one video.

    Args:
        meta (dict): metainfo of the data set.
        source (Images | Video): What is predicted.
        folder (Path): for the files, made when the first is written.
    """

    def __init__(self, meta: dict, source: Images | Video, folder: Path) -> None:
        self.visualizer = PoseLocalVisualizer()
        self.visualizer.set_dataset_meta(meta)
        self.folder, self.writer = folder, None
        self.video = isinstance(source, Video)
        if self.video:
            self.path, self.fps = folder / f'{Path(source.name).stem}.mp4', source.fps

    def add(self, name: str, image: np.ndarray, people: InstanceData, ids: Sequence[int] | None = None) -> None:
        """Draw and write an image.

        Args:
            name (str): of the image.
            image (np.ndarray): (h, w, 3) uint8 BGR.
            people (InstanceData): N people.
            ids (Sequence[int], optional): of each of them, drawn as its colour and beside it. Defaults to None: the
                colours of the data set.

        Raises:
            OSError: if the file cannot be written.
        """
        drawn = self._drawn(image, people) if ids is None else self._tracked(image, people, ids)
        path = self.path if self.video else self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.video:
            if not cv2.imwrite(str(path), drawn):
                raise OSError(f'the drawn image {path} could not be written; is there space left?')
            return
        if self.writer is None:
            size = (drawn.shape[1], drawn.shape[0])
            self.writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), self.fps, size)
        self.writer.write(drawn)

    def close(self) -> None:
        """Finish the video."""
        if self.writer is not None:
            self.writer.release()

    def _drawn(self, image: np.ndarray, people: InstanceData) -> np.ndarray:
        sample = PoseDataSample(pred_instances=people)
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        drawn = self.visualizer.add_datasample('', rgb, sample, draw_gt=False, draw_bbox=False)
        return cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)

    def _tracked(self, image: np.ndarray, people: InstanceData, ids: Sequence[int]) -> np.ndarray:
        for row, number in enumerate(ids):
            colour = colour_of(number)
            self.visualizer.kpt_color = [colour] * people.keypoints.shape[1]
            self.visualizer.link_color = [colour] * len(self.visualizer.skeleton or ())
            image = self._drawn(image, people[row : row + 1])
            seen = people.keypoints[row][people.keypoint_scores[row] > 0]
            if len(seen):
                x, y = (int(side) for side in seen[seen[:, 1].argmin()])
                cv2.putText(image, str(number), (x, max(y - 6, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour[::-1], 2)
        return image


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of an id.

    Args:
        number (int): The id.

    Returns:
        tuple[int, int, int]: RGB, 0 to 255.
    """
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(number * GOLDEN_RATIO % 1, 0.85, 1))
