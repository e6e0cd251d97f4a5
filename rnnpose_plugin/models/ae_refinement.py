"""Plain torch: fills in missing joints from the maps of Associative Embedding (AE).

Letters: N people, K keypoints, L tags per joint, H x W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def fill_missing(
    cells: Tensor, scores: Tensor, heatmaps: Tensor, tags: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Single-person refinement (section 3.3; Newell et al., 2017), one image.

    A person's tag is the mean of the tags at its detected joints. A missing joint goes to the cell of least
    ``round(|tag - person's tag|) * 100 - heatmap``: first the nearest whole tag distance, then the highest heatmap.
    Where the heatmap is too low even there, the joint stays missing. Detected joints never change, and a person
    without any has no tag and is left alone.

    The rule is MMPose's. A joint's tag is read at its nearest cell; MMPose truncates, since it fills in
    before it refines.

    Args:
        cells (Tensor): joints (N, K, 2), x and y in cells of the maps.
        scores (Tensor): (N, K), 0 where missing.
        heatmaps (Tensor): AE's maps (K, H, W), shared by all people.
        tags (Tensor): (L * K, H, W), those of joint k in ``tags[k::K]``.
        threshold (float): tau, the least heatmap value of a joint.

    Returns:
        tuple[Tensor, Tensor]: joints (N, K, 2) and scores (N, K), new tensors; a joint filled in has the AE heatmap's
        value as its score.

    Raises:
        ValueError: if there is not the same number of tags for every joint, or the maps differ in size.
    """
    K, H, W = heatmaps.shape
    if tags.shape[1:] != (H, W):
        raise ValueError(
            f'The tags have {tags.shape[2]} x {tags.shape[1]} cells, but the heatmaps {W} x {H}; give maps of one size.'
        )
    if len(tags) % K:
        raise ValueError(f'There are {len(tags)} tag maps for {K} joints; give a multiple of {K}.')
    heatmaps, tags = heatmaps.float(), tags.float().reshape(-1, K, H, W)
    detected = scores > 0

    x, y = (cells + 0.5).floor().long().unbind(-1)
    flat = y.clamp(0, H - 1) * W + x.clamp(0, W - 1)
    joint_tags = tags.flatten(-2)[:, torch.arange(K, device=flat.device), flat]  # (L, N, K)
    person_tags = (joint_tags * detected).sum(-1) / detected.sum(-1).clamp(min=1)  # (L, N)

    # Person by person: all at once would be N maps of every tag.
    best = torch.zeros_like(flat)
    refined = detected.any(-1) & ~detected.all(-1)
    for n in refined.nonzero()[:, 0].tolist():
        distance = (tags - person_tags[:, n, None, None, None]).norm(dim=0)
        best[n] = (distance.round() * 100 - heatmaps).flatten(-2).argmin(-1)
    values = heatmaps.flatten(-2)[torch.arange(K, device=flat.device), best]
    filled = refined[:, None] & ~detected & (values >= threshold)

    places = torch.stack([best % W, torch.div(best, W, rounding_mode='floor')], dim=-1)
    return torch.where(filled[..., None], places.to(cells), cells), torch.where(filled, values.to(scores), scores)
