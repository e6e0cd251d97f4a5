"""Training on images of few people only."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SmallGroups(BaseTransform):
    """Drops training images with too many people; the data set then draws another image at random.

    The paper compares exact and approximate SGD on "images that have a maximum 8 people" (section 4.1). People are
    counted as in the codec: at least one labelled joint, no crowd region. Later crops can only reduce their number. The
    transform needs no pixels, so put it first.

    Args:
        max_people (int): most people in an image, >= 1.

    Raises:
        ValueError: for ``max_people`` below 1.
    """

    def __init__(self, max_people: int) -> None:
        if max_people < 1:
            raise ValueError(f'max_people is {max_people}; allow at least 1 person in an image.')
        self.max_people = max_people

    def transform(self, results: dict) -> dict | None:
        """Return the sample or None.

        Args:
            results (dict): with ``keypoints_visible`` (N, K), 0 where unlabelled; optionally ``iscrowd``, N flags.

        Returns:
            dict | None: the same; None for more people than allowed, which makes MMEngine's data sets draw another one.
        """
        is_person = (results['keypoints_visible'] > 0).any(axis=1) & ~np.asarray(results.get('iscrowd', 0), dtype=bool)
        return results if is_person.sum() <= self.max_people else None
