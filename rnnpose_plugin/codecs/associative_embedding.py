from __future__ import annotations

import numpy as np
from mmpose.codecs import AssociativeEmbedding
from mmpose.registry import KEYPOINT_CODECS


@KEYPOINT_CODECS.register_module()
class TrainableAssociativeEmbedding(AssociativeEmbedding):
    """MMPose's Associative Embedding codec, with its labels sent to the head.

    ``AssociativeEmbedding.encode`` makes ``keypoint_indices``, which the tag loss needs, but names no
    ``label_mapping_table``, so ``PackPoseInputs`` drops them (MMPose issue #2389). Arguments, encoding and decoding are
    MMPose's own.
    """

    label_mapping_table = dict(keypoint_weights='keypoint_weights', keypoint_indices='keypoint_indices')


def to_ae_cells(pixels: np.ndarray, stride: float) -> np.ndarray:
    """Pixels of the input image to cells of AE's maps: MMPose trains AE with ``cell = pixel / stride``.

    Args:
        pixels (np.ndarray): x, y in input space, shape (..., 2).
        stride (float): pixels per cell.

    Returns:
        np.ndarray: x, y in cells, same shape.
    """
    return pixels / stride


def from_ae_cells(cells: np.ndarray, stride: float) -> np.ndarray:
    """The inverse of :func:`to_ae_cells`.

    Args:
        cells (np.ndarray): x, y in cells, shape (..., 2).
        stride (float): pixels per cell.

    Returns:
        np.ndarray: x, y in input space, same shape.
    """
    return cells * stride
