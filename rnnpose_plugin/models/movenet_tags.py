"""Plain torch: whose joint a cell would show, by MoveNet's centres and regression. Ours, not MoveNet's.

MoveNet's regression stands at a person's centre and speaks of places far away, where convolutions of the decoder do not
look it up. Here it is carried to these places: each cell of keypoint k gets a tag that tells the centre from which it
is regressed, as Associative Embedding's tags tell people apart. A tag is a slope over the picture read at the centre,
so the tags of one person agree and those of people apart differ; there are two slopes, across each other.

Letters: N images, n centres, K keypoints, H x W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .movenet_decoding import find_peaks

SLOPE = 6.0  # rise of a tag across the picture; AE's people are told apart by 1
MOST_CENTRES = 20
LEAST_CENTRE = 0.05
# Standard deviation of where a regressed joint is taken to be, in cells: a constant and a share of the person's size.
SPREAD = (1.5, 0.1)
NOBODY = 0.05  # weight of the cell's own slope, which is its tag far from everybody's joints


def centre_tags(maps: dict[str, Tensor]) -> Tensor:
    """The tags of a batch.

    Args:
        maps (dict[str, Tensor]): as :meth:`MoveNet.forward` gives them, (N, channels, H, W).

    Returns:
        Tensor: (N, 2 K, H, W), the first slope's tags of all keypoints, then the second's.
    """
    return torch.stack([_tags({name: of_all[i] for name, of_all in maps.items()}) for i in range(len(maps['centre']))])


def slopes(rows: Tensor, columns: Tensor, H: int, W: int) -> Tensor:
    """Both slopes at some cells.

    Args:
        rows (Tensor): any shape, cells.
        columns (Tensor): the same shape.
        H (int): rows of the maps.
        W (int): columns of the maps.

    Returns:
        Tensor: (2, ...), 0 in the middle of the maps.
    """
    side = max(H, W)
    y, x = (rows + 0.5 - H / 2) / side, (columns + 0.5 - W / 2) / side
    return SLOPE * torch.stack([x + y / 2, y - x / 2])


@torch.no_grad()
def _tags(maps: dict[str, Tensor]) -> Tensor:
    centre = maps['centre'][0].float()
    (H, W), K = centre.shape, len(maps['heatmaps'])
    heights, rows, columns = find_peaks(centre, MOST_CENTRES, LEAST_CENTRE)
    cells = torch.stack([rows, columns], dim=1).to(centre)
    about = maps['regression'][:, rows, columns].float().T.reshape(len(rows), K, 2) + cells[:, None]  # (n, K, 2) y, x
    sizes = maps['box_scale'][:, rows, columns].float().clamp(min=1).prod(dim=0).sqrt()
    widths = (SPREAD[0] + SPREAD[1] * sizes)[:, None, None, None]
    every_row, every_column = torch.arange(H).to(centre), torch.arange(W).to(centre)
    down, across = every_row - about[..., :1], every_column - about[..., 1:]
    squares = down.square()[..., :, None] + across.square()[..., None, :]
    weights = heights[:, None, None, None] * torch.exp(-squares / (2 * widths**2))  # (n, K, H, W)
    own = slopes(every_row[:, None].expand(H, W), every_column.expand(H, W), H, W)
    mixed = torch.einsum('sn,nkhw->skhw', slopes(cells[:, 0], cells[:, 1], H, W), weights)
    return ((mixed + NOBODY * own[:, None]) / (weights.sum(dim=0) + NOBODY)).flatten(0, 1)
