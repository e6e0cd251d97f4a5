"""AP with bootstrap intervals of several models on the same images, from what tools/test.py --dump wrote.

python -m projects.photographs.table ANNOTATIONS.json NAME=DUMP.pkl [NAME=DUMP.pkl ...] [--min-score 0.3]

The first model is what the others are compared with: the interval of each difference is that of the same draws.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pickle
from collections import defaultdict

import numpy as np
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
DRAWS = 1000
STATS = ('AP', 'AP50', 'AP75', 'AP medium', 'AP large', 'AR')


def results_of(dump: list[dict], min_score: float) -> list[dict]:
    """Predictions as COCO wants them.

    Args:
        dump (list[dict]): data samples of tools/test.py --dump.
        min_score (float): people with a lower score are left out.

    Returns:
        list[dict]: one entry for each person found.
    """
    results = []
    for sample in dump:
        people = sample['pred_instances']
        for joints, scores, score in zip(people['keypoints'], people['keypoint_scores'], people['bbox_scores']):
            if score >= min_score:
                flat = np.column_stack([joints, scores]).ravel().tolist()
                results.append(dict(image_id=sample['img_id'], category_id=1, keypoints=flat, score=float(score)))
    return results


class Evaluation:
    """One model's matches with the truth, from which AP of any draw of images can be had.

    Args:
        coco (COCO): of the annotations.
        results (list[dict]): from :func:`results_of`.
        image_ids (list[int]): images, in the order of draws.
    """

    def __init__(self, coco: COCO, results: list[dict], image_ids: list[int]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            found = coco.loadRes(results) if results else COCO()
            self.eval = COCOeval(coco, found, 'keypoints', SIGMAS)
            self.eval.params.imgIds = image_ids
            self.eval.evaluate()
        self.matches = np.empty(len(self.eval.evalImgs), object)
        self.matches[:] = self.eval.evalImgs
        self.matches = self.matches.reshape(-1, len(image_ids))  # sizes of people x images

    def stats(self, draw: np.ndarray) -> list[float]:
        """AP and AR.

        Args:
            draw (np.ndarray): indices of images, some of them more than once.

        Returns:
            list[float]: of ``STATS``, in percent.
        """
        self.eval.evalImgs = self.matches[:, draw].ravel().tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            self.eval.accumulate()
            self.eval.summarize()
        ap, ap50, ap75, medium, large, ar = self.eval.stats[:6]
        return [100 * value for value in (ap, ap50, ap75, medium, large, ar)]


def counts(coco: COCO, results: list[dict], image_ids: list[int]) -> np.ndarray:
    """People found and true in each image.

    Args:
        coco (COCO): of the annotations.
        results (list[dict]): from :func:`results_of`.
        image_ids (list[int]): images.

    Returns:
        np.ndarray: (images, 2).
    """
    found, true = defaultdict(int), defaultdict(int)
    for result in results:
        found[result['image_id']] += 1
    for person in coco.anns.values():
        true[person['image_id']] += person['num_keypoints'] > 0 and not person.get('iscrowd', 0)
    return np.array([(found[image], true[image]) for image in image_ids])


def interval(values: np.ndarray) -> str:
    """The middle 95 percent.

    Args:
        values (np.ndarray): one for each draw.

    Returns:
        str: for a table.
    """
    low, high = np.percentile(values, [2.5, 97.5])
    return f'[{low:.1f}, {high:.1f}]'


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('annotations')
    parser.add_argument('dumps', nargs='+', metavar='NAME=DUMP.pkl')
    parser.add_argument('--min-score', type=float, default=0.0, help='leave out who has less (default: leave out none)')
    parser.add_argument('--draws', type=int, default=DRAWS)
    args = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(args.annotations)
    with open(args.annotations, encoding='utf-8') as file:
        image_ids = sorted(image['id'] for image in json.load(file)['images'])
    random, everything = np.random.RandomState(0), np.arange(len(image_ids))
    draws = [random.randint(len(image_ids), size=len(image_ids)) for _ in range(args.draws)]
    print(f'| model | {" | ".join(STATS)} | AP 95 % | AP less the first | found/true | people off |')
    print('|---' * (len(STATS) + 5) + '|')
    first = None
    for named in args.dumps:
        name, _, path = named.partition('=')
        with open(path, 'rb') as file:
            results = results_of(pickle.load(file), args.min_score)
        evaluation, people = Evaluation(coco, results, image_ids), counts(coco, results, image_ids)
        stats = evaluation.stats(everything)
        drawn = np.array([evaluation.stats(draw)[0] for draw in draws])
        less = '' if first is None else f'{stats[0] - first[0]:+.1f} {interval(drawn - first[1])}'
        first = (stats[0], drawn) if first is None else first
        off = np.abs(people[:, 0] - people[:, 1]).mean()
        found, true = people.sum(0)
        cells = [
            name,
            *(f'{value:.1f}' if value >= 0 else '' for value in stats),
            interval(drawn),
            less,
            f'{found}/{true}',
            f'{off:.2f}',
        ]
        print(f'| {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
    main()
