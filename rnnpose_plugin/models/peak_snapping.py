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
        peak_maps (Tensor): (3 K, H, W), or for people of different images (n, 3 K, H, W): the backbone's heatmaps in
            [0, 1], then for each keypoint y and x from a cell to the joint, in cells, as MoveNet's ``offsets``.
        stride (float): pixels along a side of a cell.

    Returns:
        tuple[Tensor, Tensor]: keypoints (n, K, 2), where a joint without a peak under its heatmap is left as it is, and
        the backbone's heatmaps at the cells chosen (n, K), which say how sure it is that such a joint is there.
    """
    n, K, _, W = heatmaps.shape
    of_person = peak_maps.flatten(-2).expand(n, -1, -1)  # (n, 3 K, H W)
    peaks, offsets = of_person[:, :K], of_person[:, K:].unflatten(1, (K, 2))
    places = (heatmaps.clamp(min=0).flatten(2) * (peaks + FLOOR)).argmax(dim=2, keepdim=True)  # (n, K, 1)
    rows = torch.div(places, W, rounding_mode='floor')
    cells = torch.cat([places - rows * W, rows], dim=2)
    at_cells = offsets.gather(3, places[:, :, None].expand(-1, -1, 2, -1)).squeeze(3)
    heights = peaks.gather(2, places).squeeze(2)
    moved = stride * (cells + at_cells.flip(2))
    return torch.where((heights > LEAST)[..., None], moved.to(keypoints), keypoints), heights


def snap_located(
    keypoints: Tensor, scores: Tensor, heatmaps: Tensor, stop_probabilities: Tensor, peak_maps: Tensor, stride: float
) -> tuple[Tensor, Tensor]:
    """:func:`snap_to_peaks` for what ``InstanceHeatmap.locate`` gives.

    Args:
        keypoints (Tensor): (n, K, 3), x, y and score.
        scores (Tensor): (n,), of the instances.
        heatmaps (Tensor): as in :func:`snap_to_peaks`.
        stop_probabilities (Tensor): (n,).
        peak_maps (Tensor): as in :func:`snap_to_peaks`.
        stride (float): as in :func:`snap_to_peaks`.

    Returns:
        tuple[Tensor, Tensor]: the same, moved. A joint's score is the backbone's height, the instance score the mean of
        these times the stop probability; 0 stays 0.
    """
    moved, heights = snap_to_peaks(keypoints[..., :2], heatmaps, peak_maps, stride)
    ranks = torch.where(scores > 0, stop_probabilities * heights.mean(dim=1), 0)
    return torch.cat([moved, heights.to(moved)[..., None]], dim=2), ranks.float()


def snap_people(
    poses: tuple[np.ndarray, np.ndarray, np.ndarray],
    heatmaps: Tensor,
    stop_probabilities: Tensor,
    peak_maps: Tensor,
    stride: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`snap_located` for what ``InstanceHeatmap.decode`` gives.

    Args:
        poses (tuple[np.ndarray, np.ndarray, np.ndarray]): keypoints (n, K, 2), their scores (n, K), instance scores
            (n,).
        heatmaps (Tensor): as in :func:`snap_to_peaks`.
        stop_probabilities (Tensor): (n,).
        peak_maps (Tensor): as in :func:`snap_to_peaks`.
        stride (float): as in :func:`snap_to_peaks`.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: the same, moved.
    """
    places, joint_scores, scores = (torch.from_numpy(part).to(heatmaps.device) for part in poses)
    given = torch.cat([places, joint_scores[..., None]], dim=2), scores
    keypoints, scores = snap_located(*given, heatmaps, stop_probabilities, peak_maps, stride)
    table = keypoints.cpu().numpy()
    return table[..., :2], table[..., 2], scores.cpu().numpy()


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
