"""Identities kept by ``tools/predict.py --track``, on synthetic videos.

python -m projects.tracking.study CONFIG CHECKPOINT
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

import rnnpose_plugin  # noqa: F401  (first, as it prepares the import of mmpose)

# isort: split
from mmpose.apis import inference_bottomup
from scipy.optimize import linear_sum_assignment

from projects.markdown import align
from rnnpose_plugin.evaluation.crowding import coco_figures, oks_matrix
from rnnpose_plugin.runtime.predict import Predictions, load_model
from rnnpose_plugin.runtime.tracking import Tracker

from .moving_people import draw_video

SAME = 0.5  # OKS from which a pose shows a person
COLUMNS = ['id switches', 'IDF1', 'AP', 'found/true', 'ms per frame']


class Score:
    """What is counted over all videos.

    Args:
        sigmas (Sequence[float]): K, of the OKS.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = sigmas
        self.annotations, self.detections, self.images = [], [], []
        self.switches = self.true = self.found = self.shared = 0
        self.seconds: list[float] = []

    def add_video(self, truth: Sequence[list[dict]], poses: Sequence[list[dict]]) -> None:
        """Count a video.

        Args:
            truth (Sequence[list[dict]]): of each frame the annotations.
            poses (Sequence[list[dict]]): of each frame the detections, with ``track_id``.
        """
        last, together = {}, defaultdict(int)
        for people, found in zip(truth, poses):
            self._add_frame(people, found)
            pairs, counted = self._pairs(people, found)
            self.true += sum(person['num_keypoints'] > 0 for person in people)
            self.found += counted
            for identity, track in pairs:
                self.switches += last.get(identity, track) != track
                last[identity] = track
                together[identity, track] += 1
        identities, tracks = (sorted({pair[k] for pair in together}) for k in (0, 1))
        frames = np.array([[together[identity, track] for track in tracks] for identity in identities]).reshape(
            len(identities), len(tracks)
        )
        self.shared += frames[linear_sum_assignment(frames, maximize=True)].sum()

    def _pairs(self, people: list[dict], found: list[dict]) -> tuple[list[tuple[int, int]], int]:
        """Identity and track of each person that is found, and how many poses count: not those of ignored people."""
        if not people or not found:
            return [], len(found)
        oks = np.nan_to_num(oks_matrix(people, found, self.sigmas))
        counted = np.array([person['num_keypoints'] > 0 for person in people])
        gain = np.where(oks < SAME, 0, oks + counted[:, None])  # people that count come first
        rows, columns = linear_sum_assignment(gain, maximize=True)
        same = [(row, column) for row, column in zip(rows, columns) if oks[row, column] >= SAME]
        pairs = [(people[row]['identity'], found[column]['track_id']) for row, column in same if counted[row]]
        return pairs, len(found) - sum(not counted[row] for row, _ in same)

    def _add_frame(self, people: list[dict], found: list[dict]) -> None:
        number = len(self.images) + 1
        self.images.append(dict(id=number, width=128, height=128))
        self.annotations += [
            dict(person, id=len(self.annotations) + k, image_id=number) for k, person in enumerate(people, start=1)
        ]
        self.detections += [dict(pose, image_id=number) for pose in found]

    def as_row(self) -> list[str]:
        """Cells of the table."""
        truth = dict(images=self.images, annotations=self.annotations, categories=[dict(id=1, name='person')])
        figures = coco_figures(truth, self.detections, self.sigmas)
        f1 = 2 * self.shared / (self.true + self.found)
        return [
            str(self.switches), f'{100 * f1:.1f}', f'{100 * figures["AP"]:.1f}', f'{self.found}/{self.true}',
            f'{1000 * np.median(self.seconds):.0f}',
        ]  # fmt: skip


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--videos', type=int, default=6)
    parser.add_argument('--frames', type=int, default=60, help='of each video (default: %(default)s)')
    parser.add_argument('--people', type=int, default=4, help='of each video (default: %(default)s)')
    args = parser.parse_args()
    model = load_model(args.config, args.checkpoint, 'cpu')
    sigmas = model.dataset_meta['sigmas']
    score = Score(sigmas)
    for seed in range(args.videos):
        truth, poses = [], []
        tracker = Tracker(sigmas)
        predictions = Predictions(model.dataset_meta, tracker)
        for number, (image, people) in enumerate(draw_video(seed, args.people, args.frames)):
            begin = time.perf_counter()
            (sample,) = inference_bottomup(model, image)
            poses.append(predictions.add(number, str(number), image.shape[:2], sample.pred_instances))
            score.seconds.append(time.perf_counter() - begin)
            truth.append(people)
        score.add_video(truth, poses)
    print('\n'.join(align([COLUMNS, score.as_row()])))


if __name__ == '__main__':
    main()
