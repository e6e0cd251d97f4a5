"""Plain torch: MoveNet MultiPose's own way from its maps to people.

A person is a peak of the centre map. From there the regression says roughly where each keypoint is. The keypoint is the
cell of its heatmap, inside the person's box, that is highest when each is weighed by a Gaussian around that place; it
is moved by that cell's offset. The constants are the published graph's.

Letters: n people, K keypoints, H x W cells of 4 x 4 pixels. A place in the picture is 4 (cell + offset), in pixels of
COCO's annotations; there is no half-cell shift.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE = 4
PEAK_WINDOW = 5  # cells along a side in which a centre is the highest
PEAK_TOLERANCE = 1e-6
# exp(-d^2 / (SPREAD min(H, W))), d in cells.
SPREAD = 0.300048828125
COUNTED = 0.126953125  # a person's score goes by the keypoints above it


class FoundPeople(NamedTuple):
    """The people of a picture, the surest centre first.

    Args:
        keypoints: (n, K, 2) x and y, pixels.
        keypoint_scores: (n, K) in [0, 1].
        scores: (n,) the centre's height times the mean score of the keypoints that count.
        boxes: (n, 4) x1, y1, x2, y2, pixels, inside the picture.
    """

    keypoints: Tensor
    keypoint_scores: Tensor
    scores: Tensor
    boxes: Tensor


@torch.no_grad()
def find_people(maps: dict[str, Tensor], max_people: int, min_centre: float = 0.0) -> FoundPeople:
    """Decode one picture.

    Args:
        maps (dict[str, Tensor]): as :meth:`MoveNet.forward` names them, each (channels, H, W): ``centre``,
            ``heatmaps``, ``regression``, ``offsets``, ``box_offset`` and ``box_scale``.
        max_people (int): at most so many peaks are people.
        min_centre (float): a lower peak of the centre map is not a person. Defaults to 0, so that there are always
            ``max_people`` of them, as in the graph.

    Returns:
        FoundPeople: in the order of their centres.
    """
    centre, heatmaps = maps['centre'][0], maps['heatmaps']
    (H, W), K = centre.shape, len(heatmaps)
    heights, rows, columns = find_peaks(centre, max_people, min_centre)
    n = len(heights)
    cells = torch.stack([rows, columns], dim=1).to(centre)  # (n, 2) y, x
    boxes = _boxes(maps, cells, rows, columns)
    about = maps['regression'][:, rows, columns].T.reshape(n, K, 2) + cells[:, None]
    flat = (heatmaps * _nearness(about, H, W) * _inside(boxes, H, W)[:, None]).flatten(2)
    places = flat.argmax(dim=2)
    # A cell's score is the highest that any of the people gives it, as in the graph.
    scores = flat.amax(dim=0)[torch.arange(K, device=places.device), places] if n else flat.new_zeros(0, K)
    y, x = torch.div(places, W, rounding_mode='floor'), places % W
    offsets = maps['offsets'].reshape(K, 2, H * W)[torch.arange(K, device=places.device), :, places]
    keypoints = STRIDE * (torch.stack([x, y], dim=2) + offsets.flip(2))
    counted = scores > COUNTED
    means = torch.where(counted, scores, 0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return FoundPeople(keypoints, scores, heights * means, STRIDE * boxes[:, [1, 0, 3, 2]])


def find_peaks(centre: Tensor, max_people: int, min_centre: float) -> tuple[Tensor, Tensor, Tensor]:
    """The highest peaks of a centre map.

    Args:
        centre (Tensor): (H, W).
        max_people (int): at most so many.
        min_centre (float): none that is lower.

    Returns:
        tuple[Tensor, Tensor, Tensor]: height, row and column of each, the highest first.
    """
    # Equal heights in the order of the cells, as in the graph; topk promises none.
    heights, places = peak_heights(centre[None])[0].sort(descending=True, stable=True)
    kept = heights[:max_people] >= min_centre
    heights, places = heights[:max_people][kept], places[:max_people][kept]
    return heights, torch.div(places, centre.shape[1], rounding_mode='floor'), places % centre.shape[1]


def peak_heights(centre: Tensor) -> Tensor:
    """A batch of centre maps at their peaks, 0 elsewhere.

    Args:
        centre (Tensor): (N, H, W).

    Returns:
        Tensor: (N, H W).
    """
    highest = F.max_pool2d(centre[:, None], PEAK_WINDOW, stride=1, padding=PEAK_WINDOW // 2)[:, 0]
    return torch.where((centre - highest).abs() < PEAK_TOLERANCE, centre, 0).flatten(1)


def _boxes(maps: dict[str, Tensor], cells: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(n, 4) y1, x1, y2, x2 in cells, inside the maps."""
    middle = cells + maps['box_offset'][:, rows, columns].T
    half = maps['box_scale'][:, rows, columns].T.clamp(min=0) / 2
    limits = cells.new_tensor(maps['centre'].shape[-2:])
    return torch.cat([(middle + sign * half).clamp(min=0).minimum(limits) for sign in (-1, 1)], dim=1)


def _nearness(about: Tensor, H: int, W: int) -> Tensor:
    """(n, K, H, W), 1 at the places (n, K, 2) y, x and falling with the distance."""
    rows, columns = torch.arange(H).to(about), torch.arange(W).to(about)
    squares = (rows - about[..., :1]).square()[..., :, None] + (columns - about[..., 1:]).square()[..., None, :]
    return torch.exp(-squares / (SPREAD * min(H, W)))


def _inside(boxes: Tensor, H: int, W: int) -> Tensor:
    """(n, H, W), 1 for the cells in each box."""
    rows, columns = torch.arange(H).to(boxes), torch.arange(W).to(boxes)
    y1, x1, y2, x2 = boxes.T[..., None]
    in_rows, in_columns = (rows >= y1) & (rows < y2), (columns >= x1) & (columns < x2)
    return (in_rows[:, :, None] & in_columns[:, None, :]).to(boxes)
