"""The AE maps that the neck passes along behind F, and the joints that are filled in from them (section 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..codecs.associative_embedding import from_ae_cells, to_ae_cells
from ..codecs.instance_heatmap import InstanceHeatmap
from .ae_refinement import fill_missing
from .view_merging import View


def ae_maps_of(views: list[View], num_keypoints: int, codec: InstanceHeatmap) -> list[tuple[Tensor, Tensor]] | None:
    """Each image's AE heatmaps, averaged over the scales, and its tags at the base scale.

    Mirrored views are left out: AE's cells, unlike the codec's, are not mirrored onto cells.

    Args:
        views (list[View]): of the batch.
        num_keypoints (int): K.
        codec (InstanceHeatmap): resamples the maps of other scales.

    Returns:
        list[tuple[Tensor, Tensor]], optional: for each image (K, H, W) and (L * K, H, W), L tags per joint; None if no
        such maps come behind the features.
    """
    plain = [view for view in views if not view.mirrored and len(view.feats) > 1]
    maps = [view.feats[1] for view in plain]
    # The second level of a pyramid has another size than F.
    fits = maps and maps[0].shape[-2:] == views[0].feats[0].shape[-2:]
    if not fits or maps[0].shape[1] < 2 * num_keypoints or maps[0].shape[1] % num_keypoints:
        return None
    heatmaps = [of_view[:, :num_keypoints] for of_view in maps]
    if len(heatmaps) > 1:
        heatmaps = [codec.resample(of_view, view.input_size) for of_view, view in zip(heatmaps, plain)]
    return list(zip(torch.stack(heatmaps).mean(dim=0), maps[0][:, num_keypoints:]))


def fill_missing_keypoints(
    keypoints: np.ndarray, keypoint_scores: np.ndarray, heatmaps: Tensor, tags: Tensor, codec: InstanceHeatmap
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`fill_missing` for keypoints in pixels.

    Args:
        keypoints (np.ndarray): (n, K, 2), in pixels of the input image.
        keypoint_scores (np.ndarray): (n, K), 0 where missing.
        heatmaps (Tensor): AE's (K, H, W).
        tags (Tensor): (L * K, H, W).
        codec (InstanceHeatmap): has the stride and the threshold tau.

    Returns:
        tuple[np.ndarray, np.ndarray]: keypoints (n, K, 2) and scores (n, K).
    """
    cells = torch.from_numpy(to_ae_cells(keypoints, codec.stride)).to(heatmaps.device)
    scores = torch.from_numpy(keypoint_scores).to(heatmaps.device)
    cells, filled = fill_missing(cells, scores, heatmaps, tags, codec.keypoint_threshold)
    return from_ae_cells(cells.cpu().numpy(), codec.stride), filled.cpu().numpy()
