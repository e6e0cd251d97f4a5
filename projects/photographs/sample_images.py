"""Images for the demo from the one photograph of a person that the pinned stack brings along.

It is matplotlib's sample, a portrait of Grace Hopper in the public domain (matplotlib's pull request 1599 says so). The
decoder was not trained on it. It shows one person; beside each other, copies of it show two.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import numpy as np

LICENCE = 'photograph: public domain, from matplotlib'
GREY = 114  # around images, as in BottomupResize


def write_samples(folder: str) -> list[str]:
    """Write two images: the portrait beside its mirror image, and beside a smaller copy.

    Args:
        folder (str): made if it is not there.

    Returns:
        list[str]: their paths.
    """
    portrait = cv2.imread(str(Path(matplotlib.get_data_path(), 'sample_data', 'grace_hopper.jpg')))
    mirrored = np.ascontiguousarray(portrait[:, ::-1])
    images = dict(beside=np.hstack([portrait, mirrored]), near_and_far=lower_beside(mirrored, portrait, 0.6))
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = {name: str(Path(folder, f'{name}.png')) for name in images}
    for name, image in images.items():
        cv2.imwrite(paths[name], image)
    return list(paths.values())


def lower_beside(left: np.ndarray, right: np.ndarray, scale: float) -> np.ndarray:
    """Two images, the right one smaller, with one lower edge.

    Args:
        left (np.ndarray): (h, w, 3) uint8.
        right (np.ndarray): (h, w', 3) uint8.
        scale (float): of the right one, up to 1.

    Returns:
        np.ndarray: (h, w + scale * w', 3), grey above the right one.
    """
    small = cv2.resize(right, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    above = np.full((len(left) - len(small), *small.shape[1:]), GREY, np.uint8)
    return np.hstack([left, np.vstack([above, small])])
