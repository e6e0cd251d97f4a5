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

from .movenet_decoding import peak_heights

SLOPE = 6.0  # rise of a tag across the image; AE separates people by 1
MOST_CENTRES = 20
LEAST_CENTRE = 0.05
# Standard deviation of where a regressed joint is taken to be, in cells: a constant and a share of the person's size.
SPREAD = (1.5, 0.1)
OWN_SLOPE_WEIGHT = 0.05  # of the slope at the cell itself, which is its tag far from all regressed joints


@torch.no_grad()
def centre_tags(maps: dict[str, Tensor]) -> Tensor:
    """The tags of a batch. It can be exported: the number of centres is always the same, and those too low weigh 0.

    Args:
        maps (dict[str, Tensor]): as :meth:`MoveNet.forward` gives them, (N, channels, H, W).

    Returns:
        Tensor: (N, 2 K, H, W), the first slope's tags of all keypoints, then the second's.
    """
    centre = maps['centre'][:, 0].float()
    (H, W), K = centre.shape[1:], maps['heatmaps'].shape[1]
    heights, places = peak_heights(centre).topk(MOST_CENTRES)
    heights = torch.where(heights < LEAST_CENTRE, 0, heights)
    rows = torch.div(places, W, rounding_mode='floor')
    cells = torch.stack([rows, places - rows * W], dim=2).to(centre)  # (N, n, 2) y, x

    def at_centres(name: str) -> Tensor:  # (N, n, channels)
        flat = maps[name].float().flatten(2).transpose(1, 2)
        return flat.gather(1, places[..., None].expand(-1, -1, flat.shape[2]))

    about = at_centres('regression').unflatten(2, (K, 2)) + cells[:, :, None]  # (N, n, K, 2) y, x
    sizes = at_centres('box_scale').clamp(min=1).prod(dim=2).sqrt()
    widths = (SPREAD[0] + SPREAD[1] * sizes)[..., None, None]
    every_row, every_column = torch.arange(H).to(centre), torch.arange(W).to(centre)
    # exp(-(y^2 + x^2)) is a product of a column and a row, so the sum over centres is a product of matrices.
    down, across = (
        torch.exp(-(cell - about[..., axis, None]).square() / (2 * widths**2))
        for axis, cell in enumerate((every_row, every_column))
    )  # (N, n, K, H) and (N, n, K, W)
    shares = heights * torch.cat([slopes(cells[..., 0], cells[..., 1], H, W), torch.ones_like(heights)[None]])
    mixed = torch.einsum('sNn,NnKH,NnKW->NsKHW', shares, down, across)
    own = slopes(every_row[:, None].expand(H, W), every_column.expand(H, W), H, W)[:, None]
    return ((mixed[:, :2] + OWN_SLOPE_WEIGHT * own) / (mixed[:, 2:] + OWN_SLOPE_WEIGHT)).flatten(1, 2)


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
    side = torch.sym_max(H, W)  # max, of an exported graph's open sizes too
    y, x = (rows + 0.5 - H / 2) / side, (columns + 0.5 - W / 2) / side
    return SLOPE * torch.stack([x + y / 2, y - x / 2])
