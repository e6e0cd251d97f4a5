"""Plain torch and scipy: assigns predicted people to true ones. No gradients; returns index triples.

Letters: B images, T predicted people (steps), N true people, K keypoints, H x W cells.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def heatmap_distances(
    predicted: Tensor, target: Tensor, mask: Tensor | None = None, keypoint_weights: Tensor | None = None
) -> Tensor:
    """The cost matrix of section 3.2: C[k, k'] = sum over joints j of ||H[k, j] - H^[k', j]||, not squared.

    All pairs come from one batched matrix product per joint, ||a - b||^2 = |a|^2 + |b|^2 - 2 a.b, in float32.

    Args:
        predicted (Tensor): (B, T, K, H, W).
        target (Tensor): (B, N, K, H, W).
        mask (Tensor, optional): (B, H, W), 0 where the image is not annotated; such cells are ignored.
        keypoint_weights (Tensor, optional): (B, N, K), 0 for true joints that are ignored.

    Returns:
        Tensor: (B, N, T), >= 0.
    """
    a, b = target.float(), predicted.float()
    if mask is not None:
        # The mask is 0 or 1, so masking both maps masks their difference.
        a, b = a * mask[:, None, None], b * mask[:, None, None]
    a, b = a.flatten(-2).transpose(1, 2), b.flatten(-2).transpose(1, 2)  # (B, K, N or T, H W)
    with torch.autocast(a.device.type, enabled=False):
        lengths = (torch.linalg.vector_norm(part, dim=-1).square() for part in (a, b))  # a.square() would be a copy
        squared = torch.add(next(lengths)[..., :, None], next(lengths)[..., None, :]).sub_(
            2 * (a @ b.transpose(-1, -2))
        )
    # Rounding can make the square of a tiny distance negative.
    distances = squared.clamp(min=0).sqrt()  # (B, K, N, T)
    if keypoint_weights is not None:
        distances = distances * keypoint_weights.transpose(1, 2)[..., None]
    return distances.sum(dim=1)


@torch.no_grad()
def assign(cost: Tensor, free: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The assignment S of section 3.2: for each image the pairs of least total cost (Hungarian algorithm, scipy's).

    An image gets min(free true people, candidate steps) pairs. Everything crosses to the host in one transfer.

    Args:
        cost (Tensor): (B, N, T), from :func:`heatmap_distances`.
        free (Tensor): (B, N), true where a person is there and not yet assigned.
        candidates (Tensor): (B, T), true where a step may be assigned.

    Returns:
        tuple[Tensor, Tensor, Tensor]: image, true person and step of each pair, int64, on the device of ``cost``.
    """
    B, N, T = cost.shape
    # Scipy refuses NaN. The match of a diverged map does not matter: its loss is NaN, and InvalidLossHook reports that.
    cost = cost.nan_to_num(nan=1e30, posinf=1e30)
    block = torch.cat([cost.flatten(1), free.to(cost), candidates.to(cost)], dim=1).cpu().numpy()
    costs = block[:, : N * T].reshape(B, N, T)
    people, steps = block[:, N * T : N * T + N] > 0, block[:, N * T + N :] > 0
    pairs = []
    for image, matrix in enumerate(costs):
        rows, columns = people[image].nonzero()[0], steps[image].nonzero()[0]
        matrix = matrix[rows][:, columns]
        person, step = linear_sum_assignment(matrix)
        pairs += [(image, n, t) for n, t in zip(rows[person].tolist(), columns[step].tolist())]
    table = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 3).to(cost.device)
    return table[:, 0], table[:, 1], table[:, 2]
