"""Plain torch: a person's joints moved to the peaks that the backbone's own heatmaps show. Ours, not the paper's.

The decoder says whose joint it is and about where; a backbone that was trained on far more pictures says more exactly
where joints are, but not whose. MoveNet itself takes the peak nearest to a regressed place in the same way.

Letters: n people, K keypoints, H x W cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FLOOR = 0.1  # added to the backbone's heatmaps, so that a joint they miss stays where the decoder has it
LEAST = 0.1  # lower than this is no peak


def snap_to_peaks(keypoints: Tensor, heatmaps: Tensor, peak_maps: Tensor, stride: float) -> tuple[Tensor, Tensor]:
    """Move joints.

    Args:
        keypoints (Tensor): (n, K, 2) x and y, pixels of the input image.
        heatmaps (Tensor): (n, K, H, W), the decoder's.
        peak_maps (Tensor): (3 K, H, W), the backbone's heatmaps in [0, 1], then for each keypoint y and x from a cell
            to the joint, in cells, as MoveNet's ``offsets``.
        stride (float): pixels along a side of a cell.

    Returns:
        tuple[Tensor, Tensor]: keypoints (n, K, 2), where a joint without a peak under its heatmap is left as it is, and
        the backbone's heatmaps at the cells chosen (n, K), which say how sure it is that such a joint is there.
    """
    K, W = heatmaps.shape[1], heatmaps.shape[3]
    peaks, offsets = peak_maps[:K], peak_maps[K:].reshape(K, 2, -1)
    places = (heatmaps.clamp(min=0) * (peaks + FLOOR)).flatten(2).argmax(dim=2)  # (n, K)
    each = torch.arange(K, device=places.device)
    cells = torch.stack([places % W, torch.div(places, W, rounding_mode='floor')], dim=2)
    moved = stride * (cells + offsets[each, :, places].flip(2))
    heights = peaks.flatten(1)[each, places]
    return torch.where((heights > LEAST)[..., None], moved.to(keypoints), keypoints), heights


def snap_people(
    poses: tuple[np.ndarray, np.ndarray, np.ndarray],
    heatmaps: Tensor,
    stop_probabilities: Tensor,
    peak_maps: Tensor,
    stride: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`snap_to_peaks` for what the codec decoded.

    Args:
        poses (tuple[np.ndarray, np.ndarray, np.ndarray]): keypoints (n, K, 2), their scores (n, K), instance scores
            (n,).
        heatmaps (Tensor): as in :func:`snap_to_peaks`.
        stop_probabilities (Tensor): (n,).
        peak_maps (Tensor): as in :func:`snap_to_peaks`.
        stride (float): as in :func:`snap_to_peaks`.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: the same, moved. A joint's score is the backbone's height, the
        instance score the mean of these times the stop probability; 0 stays 0.
    """
    given = torch.from_numpy(poses[0]).to(heatmaps.device)
    keypoints, heights = snap_to_peaks(given, heatmaps, peak_maps, stride)
    scores = (stop_probabilities * heights.mean(dim=1)).float().cpu().numpy()
    return keypoints.cpu().numpy(), heights.float().cpu().numpy(), (poses[2] > 0) * scores


def peak_maps_of(levels: tuple[Tensor, ...], num_keypoints: int) -> Tensor:
    """What the neck passes along behind F for :func:`snap_to_peaks`.

    Args:
        levels (tuple[Tensor, ...]): from the neck, F first.
        num_keypoints (int): K.

    Returns:
        Tensor: (N, 3 K, H, W).

    Raises:
        ValueError: if there is nothing of so many channels.
    """
    behind = [level.shape[1] for level in levels[1:]]
    if behind[:1] != [3 * num_keypoints]:
        raise ValueError(
            f'snap_to_peaks wants {3 * num_keypoints} channels behind F, but they are {behind}; give the '
            'MoveNetBackbone the level peaks and StackedFeatures its place as beside.'
        )
    return levels[1]
