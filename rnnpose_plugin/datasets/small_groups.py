"""Training on pictures of a few people only."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SmallGroups(BaseTransform):
    """Drops a training picture with too many people; the data set then draws another one by chance.

    The paper compares exact and approximate SGD on "images that have a maximum 8 people" (section 4.1). People are
    counted as the codec does: with at least one labelled joint and no crowd region. What the pipeline crops away later
    can only make them fewer. It needs no image, so put it first.

    Args:
        max_people (int): most people in a picture, >= 1.

    Raises:
        ValueError: for ``max_people`` below 1.
    """

    def __init__(self, max_people: int) -> None:
        if max_people < 1:
            raise ValueError(f'max_people is {max_people}; allow at least 1 person in a picture.')
        self.max_people = max_people

    def transform(self, results: dict) -> dict | None:
        """Pass a small group on.

        Args:
            results (dict): with ``keypoints_visible`` (N, K), 0 where unlabelled; optionally ``iscrowd``, N flags.

        Returns:
            dict | None: the same; None, mmengine's sign for "fetch another one", for more people than allowed.
        """
        is_person = (results['keypoints_visible'] > 0).any(axis=1) & ~np.asarray(results.get('iscrowd', 0), dtype=bool)
        return results if is_person.sum() <= self.max_people else None
