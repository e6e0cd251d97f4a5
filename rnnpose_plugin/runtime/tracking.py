"""Plain NumPy: which people of a video's frames are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..evaluation.crowding import oks_matrix


class Tracker:
    """Gives each person of a frame the id of the person of an earlier frame whose pose is the most similar one.

    The pairs are those with the highest sum of OKS (Hungarian algorithm), whose scale is the box of the earlier pose.
    Whoever has no partner gets the next new id.

    Args:
        sigmas (Sequence[float]): K, of the OKS.
        least_oks (float): poses that are less similar are never the same person. Defaults to 0.2.
        memory (int): frames for which someone who is not found keeps the id. Defaults to 10.
    """

    def __init__(self, sigmas: Sequence[float], least_oks: float = 0.2, memory: int = 10) -> None:
        self.sigmas, self.least_oks, self.memory = sigmas, least_oks, memory
        self.known: list[dict] = []
        self.last_id = 0

    def update(self, people: Sequence[dict]) -> list[int]:
        """The ids of the next frame's people.

        Args:
            people (Sequence[dict]): with ``keypoints``, 3 * K numbers: x, y in pixels and the score, 0 for a joint that
                was not found.

        Returns:
            list[int]: from 1, one for each of them, each once.
        """
        ids = [0] * len(people)
        with np.errstate(invalid='ignore'):  # a person without joints
            oks = np.nan_to_num(oks_matrix(self.known, people, self.sigmas))
        # Pairs that do not count all gain the same, or they would change the other pairs.
        rows, columns = linear_sum_assignment(np.where(oks < self.least_oks, 0, oks), maximize=True)
        for row, column in zip(rows, columns):
            ids[column] = self.known[row]['id'] if oks[row, column] >= self.least_oks else 0
        for column, number in enumerate(ids):
            if not number:
                self.last_id += 1
                ids[column] = self.last_id
        missed = [dict(one, missed=one['missed'] + 1) for one in self.known if one['id'] not in ids]
        found = [
            dict(id=number, keypoints=person['keypoints'], area=_area(person['keypoints']), missed=0)
            for number, person in zip(ids, people)
        ]
        self.known = found + [one for one in missed if one['missed'] <= self.memory]
        return ids


def _area(keypoints: Sequence[float]) -> float:
    """Of the box around the joints that were found, at least a pixel."""
    joints = np.reshape(keypoints, (-1, 3))
    joints = joints[joints[:, 2] > 0, :2]
    return float(max(np.ptp(joints, axis=0).prod(), 1)) if len(joints) else 1.0
