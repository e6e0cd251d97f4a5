"""Plain torch: merges the people found in several views of an image (test-time augmentation).

A view is the image itself, mirrored, or at another scale. Each finds other people, in another order.

Letters: V views, n_v people found in view v, K keypoints, H x W cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .matching import assign, heatmap_distances

UNMATCHED = ('keep', 'drop')


@dataclass
class View:
    """A batch in one view.

    Args:
        feats (tuple[Tensor, ...]): from the neck.
        mirrored (bool): of the mirrored images.
        input_size (tuple[int, int]): [w, h] of the view's images in pixels.
    """

    feats: tuple[Tensor, ...]
    mirrored: bool
    input_size: tuple[int, int]


def list_views(
    feats: tuple | list, input_size: tuple[int, int], flip_test: bool, aug_scales: list[float]
) -> list[View]:
    """MMPose's nested features as a flat list; the first is the image itself, at its own scale.

    Args:
        feats (tuple | list): of one view; with ``aug_scales`` a list with one for each scale, 1 first; with
            ``flip_test`` each of those a pair, the mirrored second.
        input_size (tuple[int, int]): [w, h] at scale 1, in pixels.
        flip_test (bool): whether there are mirrored views.
        aug_scales (list[float]): scales beside 1, empty for none.

    Returns:
        list[View]: scale by scale, the mirrored after the plain one.
    """
    # As BottomupResize rounds.
    sizes = [tuple(input_size), *(tuple(int(side * scale) for side in input_size) for scale in aug_scales)]
    of_scales = feats if aug_scales else [feats]
    return [
        View(of_view, mirrored, size)
        for size, of_scale in zip(sizes, of_scales)
        for mirrored, of_view in zip((False, True), of_scale if flip_test else [of_scale])
    ]


def check_merging(unmatched: str, match_distance: float) -> None:
    """Refuse settings that :func:`merge_views` cannot work with.

    Args:
        unmatched (str): how people found in a single view are treated.
        match_distance (float): below which two people are the same.

    Raises:
        ValueError: for an unknown option or a distance outside (0, 1].
    """
    if unmatched not in UNMATCHED:
        raise ValueError(f'unmatched is {unmatched!r}; use one of {UNMATCHED}.')
    if not 0 < match_distance <= 1:
        raise ValueError(
            f'match_distance is {match_distance}; it is a share of the distance of disjoint heatmaps, use (0, 1].'
        )


@torch.no_grad()
def merge_views(
    views: list[tuple[Tensor, Tensor]], unmatched: str = 'keep', match_distance: float = 0.8
) -> tuple[Tensor, Tensor]:
    """One image's people, averaged over the views.

    Every view is matched in turn with the people collected from those before it, by the averages so far. New people
    are collected too, so that later views can match them.

    Args:
        views (list[tuple[Tensor, Tensor]]): of each view, at least one, the heatmaps (n_v, K, H, W) and stop
            probabilities (n_v,) in [0, 1]; all mirrored back (:func:`mirror_people`) and on the same cells.
        unmatched (str): ``'keep'`` or ``'drop'`` people found in a single view. Defaults to ``'keep'``.
        match_distance (float): in (0, 1]; two people are the same only if their distance, relative to that of disjoint
            heatmaps of the same norms, is below it: 0 for equal maps, 1 for disjoint ones. Defaults to 0.8.

    Returns:
        tuple[Tensor, Tensor]: heatmaps (n, K, H, W), the mean over the views that show the person, and stop
        probabilities (n,), the mean over all V views, of which those without the person count 0. Both are float32, in
        the order of the first view, then new ones. A single view is returned unchanged.

    Raises:
        ValueError: as :func:`check_merging`.
    """
    check_merging(unmatched, match_distance)
    if len(views) == 1:
        return views[0]
    sums, stops = (part.float() for part in views[0])
    counts = torch.ones_like(stops)
    for heatmaps, probabilities in views[1:]:
        heatmaps, probabilities = heatmaps.float(), probabilities.float()
        ones = torch.ones_like(probabilities)
        person, step = _same_people(sums / counts[:, None, None, None], heatmaps, match_distance)
        new = ones.index_fill(0, step, 0) > 0
        sums = torch.cat([sums.index_add(0, person, heatmaps[step]), heatmaps[new]])
        stops = torch.cat([stops.index_add(0, person, probabilities[step]), probabilities[new]])
        counts = torch.cat([counts.index_add(0, person, ones[step]), ones[new]])
    kept = counts > (1 if unmatched == 'drop' else 0)
    return (sums / counts[:, None, None, None])[kept], (stops / len(views))[kept]


def _same_people(collected: Tensor, heatmaps: Tensor, match_distance: float) -> tuple[Tensor, Tensor]:
    """Index pairs of people (n, K, H, W) and (m, K, H, W) who are the same."""
    squares = [maps.flatten(-2).square().sum(-1) for maps in (collected, heatmaps)]
    disjoint = (squares[0][:, None] + squares[1]).sqrt().sum(-1)
    # All-zero maps are equal: 0 / tiny.
    relative = heatmap_distances(heatmaps[None], collected[None])[0] / disjoint.clamp(min=1e-12)
    # Pairs that do not count all cost the same, or they would change the other pairs.
    cost = relative.clamp(max=match_distance)[None]
    _, person, step = assign(cost, cost.new_ones(1, len(collected)), cost.new_ones(1, len(heatmaps)))
    same = relative[person, step] < match_distance
    return person[same], step[same]


def mirror_people(heatmaps: Tensor, flip_indices: list[int]) -> Tensor:
    """Heatmaps of the mirrored image as heatmaps of the image; its own inverse.

    Mirroring the image mirrors the cells exactly, so nothing is shifted.

    Args:
        heatmaps (Tensor): (..., K, H, W).
        flip_indices (list[int]): K, for each joint the one on the body's other side.

    Returns:
        Tensor: same shape.

    Raises:
        ValueError: if there are not K indices.
    """
    K = heatmaps.shape[-3]
    if len(flip_indices) != K:
        raise ValueError(f'flip_indices has {len(flip_indices)} entries, but the heatmaps are of {K} joints; give {K}.')
    return heatmaps.flip(-1)[..., flip_indices, :, :]
