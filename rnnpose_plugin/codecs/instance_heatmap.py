from __future__ import annotations

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor
from torch.nn import functional as F

REFINEMENTS = ('none', 'quarter', 'parabola')
INSTANCE_SCORES = ('stop_times_peak', 'stop', 'peak')


@KEYPOINT_CODECS.register_module()
class InstanceHeatmap(BaseKeypointCodec):
    """Keypoints of N people <-> N x K heatmaps of which each holds one person's joint (paper, sections 3.1.1 and 3.2).

    This class is the only statement of pixel and cell conventions.

    Letters: N instances, K keypoints, [w, h] input size, [W, H] heatmap size, s = w / W the stride.

    Frames: *input space* is the image the network sees, in pixel indices (the centre of the first pixel is (0, 0)), as
    OpenCV's warps and COCO's joints are. *Cells* are heatmap indices. A cell covers s x s pixels, so
    ``cell = (pixel + 0.5) / s - 0.5``. Every joint inside the image, [-0.5, w - 0.5), then lies in [-0.5, W - 0.5) and
    has its peak on the map, and mirroring the image mirrors the cells exactly. (MMPose's AE codec uses
    ``cell = pixel / s`` and a ``decode_center_shift``; there both fail in the last half cell.)

    ``keypoint_weights`` is 1 for a joint that is labelled (visible or occluded) and inside the image, else 0. The loss
    decides how a 0 is treated.

    Encoded: ``keypoint_labels`` (N, K, 2) float32 in cells, ``keypoint_weights`` (N, K) float32 and, if asked for,
    ``instance_heatmaps`` (N * K, H, W), instance by instance. Crowd regions and people without a labelled joint inside
    the image are no instances: N counts the others.

    Args:
        input_size (tuple[int, int]): [w, h] in pixels.
        heatmap_size (tuple[int, int]): [W, H] in cells; w / W and h / H must be the same.
        sigma (float): standard deviation of the Gaussian, in cells, > 0. Defaults to 2.
        keypoint_threshold (float): tau of section 3.2: a joint whose peak is lower is discarded, which is to say gets
            score 0. Its coordinates stay the peak's, as in MMPose's codecs: COCO results have no absent joints, and
            any placeholder would be a claim. Defaults to 0.015.
        refinement (str): ``'none'``, the paper's plain arg max; ``'quarter'``, MMPose's quarter-cell step towards
            the higher neighbour, which AE gets too; ``'parabola'``, on each axis the top of the parabola through the
            logarithms of the peak and its two neighbours, which is exact for a Gaussian. Defaults to ``'quarter'``.
        instance_score (str): the score by which AP ranks people. ``'stop_times_peak'``: stop probability times the
            mean peak of the joints that were kept; ``'stop'`` and ``'peak'``: either alone. Defaults to
            ``'stop_times_peak'``.
        encode_heatmaps (bool): also encode ``instance_heatmaps``; training does without, it renders on the model's
            device. Defaults to False.

    Raises:
        ValueError: for sizes that do not divide, a sigma that is not positive, or an unknown option.
    """

    auxiliary_encode_keys = {'iscrowd'}
    # keypoint_indices: of an AE codec before this one in the pipeline, for training both heads; else there are none.
    label_mapping_table = {name: name for name in ('keypoint_labels', 'keypoint_weights', 'keypoint_indices')}

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        sigma: float = 2.0,
        keypoint_threshold: float = 0.015,
        refinement: str = 'quarter',
        instance_score: str = 'stop_times_peak',
        encode_heatmaps: bool = False,
    ) -> None:
        super().__init__()
        for name, size in (('input_size', input_size), ('heatmap_size', heatmap_size)):
            if np.shape(size) != (2,):
                raise ValueError(f'{name} is {size!r}; give width and height.')
        (w, h), (W, H) = input_size, heatmap_size
        if w * H != h * W:
            raise ValueError(
                f'input_size {tuple(input_size)} and heatmap_size {tuple(heatmap_size)} have different strides '
                f'{w / W:g} and {h / H:g}; use the same for both sides.'
            )
        if not sigma > 0:
            raise ValueError(f'sigma is {sigma}; it is a standard deviation in cells and must be positive.')
        if refinement not in REFINEMENTS:
            raise ValueError(f'refinement is {refinement!r}; use one of {REFINEMENTS}.')
        if instance_score not in INSTANCE_SCORES:
            raise ValueError(f'instance_score is {instance_score!r}; use one of {INSTANCE_SCORES}.')
        self.input_size = tuple(input_size)
        self.heatmap_size = tuple(heatmap_size)
        self.stride = w / W
        self.sigma = sigma
        self.keypoint_threshold = keypoint_threshold
        self.refinement = refinement
        self.instance_score = instance_score
        self.encode_heatmaps = encode_heatmaps

    def to_cells(self, pixels: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Pixels of the input image to heatmap cells.

        Args:
            pixels (np.ndarray | Tensor): x, y in input space, shape (..., 2).

        Returns:
            np.ndarray | Tensor: x, y in cells, same shape.
        """
        return (pixels + 0.5) / self.stride - 0.5

    def to_pixels(self, cells: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Heatmap cells to pixels of the input image; the inverse of :meth:`to_cells`.

        Args:
            cells (np.ndarray | Tensor): x, y in cells, shape (..., 2).

        Returns:
            np.ndarray | Tensor: x, y in input space, same shape.
        """
        return (cells + 0.5) * self.stride - 0.5

    def resample(self, heatmaps: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Heatmaps of the same image seen at another scale, onto this codec's cells (test-time augmentation).

        Such a view has the same stride s, so its cells cover other parts of the image. MMPose's
        ``BottomupResize(resize_mode='fit')`` takes pixel index p to r * p, r = w' / w, and not edges of pixels to edges
        of pixels. Resizing the maps edge to edge would therefore be off by (r - 1) / 2r pixels of the input image.

        Args:
            heatmaps (Tensor): (..., K, h' / s, w' / s).
            input_size (tuple[int, int]): [w', h'] of the view in pixels, in the ratio of the codec's own.

        Returns:
            Tensor: (..., K, H, W), bilinear; beyond the view's outermost cell centres these cells' values. The tensor
            itself where the view has the codec's own size.

        Raises:
            ValueError: for another ratio of the sides, or maps of another size than ``input_size`` over the stride.
        """
        (w, h), (W, H), (view_w, view_h) = self.input_size, self.heatmap_size, input_size
        if view_w * h != view_h * w:
            raise ValueError(
                f"The view's input_size {tuple(input_size)} is not a multiple of {self.input_size}; scale both sides "
                "by the same factor and resize by resize_mode='fit'."
            )
        columns, rows = heatmaps.shape[-1], heatmaps.shape[-2]
        if (columns * self.stride, rows * self.stride) != (view_w, view_h):
            raise ValueError(
                f'heatmaps has {columns} x {rows} cells, but a view of {view_w} x {view_h} pixels has '
                f'{view_w / self.stride:g} x {view_h / self.stride:g} at stride {self.stride:g}; give the '
                'input_size of these maps.'
            )
        if (view_w, view_h) == self.input_size:
            return heatmaps

        def places(cells: int, view_cells: int) -> Tensor:
            """Where the centres of this codec's cells lie in the view, -1 and 1 being the outer edges of its map."""
            pixels = self.to_pixels(torch.arange(cells, device=heatmaps.device, dtype=torch.float32))
            return (2 * self.to_cells(pixels * (view_w / w)) + 1) / view_cells - 1

        x, y = places(W, columns), places(H, rows)
        grid = torch.stack([x.expand(H, W), y[:, None].expand(H, W)], dim=-1)
        # Every map is a channel of one image, so that they share the grid.
        maps = heatmaps.float().reshape(1, -1, rows, columns)
        sampled = F.grid_sample(maps, grid[None], mode='bilinear', padding_mode='border', align_corners=False)
        return sampled.reshape(*heatmaps.shape[:-2], H, W).to(heatmaps)

    def encode(
        self,
        keypoints: np.ndarray,
        keypoints_visible: np.ndarray | None = None,
        iscrowd: list[int] | None = None,
    ) -> dict:
        """Joints in input space to joints in cells with flags.

        Args:
            keypoints (np.ndarray): (N, K, 2), pixels of the input image.
            keypoints_visible (np.ndarray, optional): (N, K), 0 where unlabelled. Defaults to all labelled.
            iscrowd (list[int], optional): N flags of COCO's crowd regions. Defaults to none.

        Returns:
            dict: as listed in the class's docstring.
        """
        if keypoints_visible is None:
            keypoints_visible = np.ones(keypoints.shape[:2], dtype=np.float32)
        labels = self.to_cells(keypoints.astype(np.float32))
        inside = np.all((labels >= -0.5) & (labels < np.array(self.heatmap_size) - 0.5), axis=-1)
        weights = (inside & (keypoints_visible > 0)).astype(np.float32)

        is_instance = weights.any(axis=1)
        if iscrowd is not None:
            is_instance &= ~np.asarray(iscrowd, dtype=bool)
        # An unlabelled joint may stand anywhere (COCO: 0, 0); a finite place keeps it harmless when rendered.
        labels = np.where(weights[..., None] > 0, labels, 0)[is_instance].astype(np.float32)
        encoded = dict(keypoint_labels=labels, keypoint_weights=weights[is_instance])
        if self.encode_heatmaps:
            heatmaps = self.render(torch.from_numpy(labels), torch.from_numpy(encoded['keypoint_weights']))
            encoded['instance_heatmaps'] = heatmaps.flatten(0, 1).numpy()
        return encoded

    def render(self, keypoint_labels: Tensor, keypoint_weights: Tensor) -> Tensor:
        """Gaussian maps on the labels' own device: H_{t,j} of section 3.1.1, one person's joint to a map.

        The Gaussian is centred at the joint itself, not at the nearest cell, and is not cut off; its value at the
        joint is 1.

        Args:
            keypoint_labels (Tensor): (..., K, 2), cells.
            keypoint_weights (Tensor): (..., K); a map of weight 0 is all zero.

        Returns:
            Tensor: (..., K, H, W), float32, in [0, 1].
        """
        W, H = self.heatmap_size
        x, y = keypoint_labels.float().unbind(-1)
        columns = self._gaussian(x, W)
        rows = self._gaussian(y, H) * keypoint_weights.float()[..., None]
        return rows[..., :, None] * columns[..., None, :]

    def _gaussian(self, centres: Tensor, length: int) -> Tensor:
        cells = torch.arange(length, device=centres.device, dtype=torch.float32)
        return torch.exp(-((cells - centres[..., None]) ** 2) / (2 * self.sigma**2))

    def decode(self, encoded: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One image's heatmaps to joints in input space, on the heatmaps' device; only N x K rows leave it.

        Args:
            encoded (tuple[Tensor, Tensor]): heatmaps (N, K, H, W) and stop probabilities (N,) in [0, 1].

        Returns:
            tuple[np.ndarray, np.ndarray, np.ndarray]: keypoints (N, K, 2) in pixels of the input image, keypoint
            scores (N, K), 0 where discarded, and instance scores (N,).
        """
        keypoints, scores = self.locate(*(torch.as_tensor(part).float() for part in encoded))
        table = keypoints.cpu().numpy()
        return table[..., :2], table[..., 2], scores.cpu().numpy()

    def locate(self, heatmaps: Tensor, stop_probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`decode` on tensors. It can be exported: no value of a tensor is looked at.

        Args:
            heatmaps (Tensor): (N, K, H, W), float32.
            stop_probabilities (Tensor): (N,) in [0, 1].

        Returns:
            tuple[Tensor, Tensor]: keypoints (N, K, 3), x and y in pixels of the input image and the keypoint score, 0
            where discarded; and instance scores (N,).
        """
        W = heatmaps.shape[-1]
        peaks, flat = heatmaps.flatten(-2).max(dim=-1)
        y = torch.div(flat, W, rounding_mode='floor')
        x = flat - y * W
        cells = torch.stack([x, y], dim=-1) + self._refine(heatmaps, x, y)
        scores = torch.where(peaks < self.keypoint_threshold, 0.0, peaks)
        return torch.cat([self.to_pixels(cells), scores[..., None]], dim=-1), self._rank(scores, stop_probabilities)

    def _refine(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Sub-cell steps (N, K, 2) from each peak, in cells."""
        H, W = heatmaps.shape[-2:]
        maps = heatmaps.flatten(-2)

        def at(dx: int, dy: int) -> Tensor:
            index = (y + dy).clamp(0, H - 1) * W + (x + dx).clamp(0, W - 1)
            return maps.gather(-1, index[..., None]).squeeze(-1)

        if self.refinement == 'none':
            return heatmaps.new_zeros(*x.shape, 2)
        if self.refinement == 'quarter':
            # As in MMPose's refine_keypoints, which wants the other axis off its first row or column too.
            inner = torch.stack([(x > 1) & (x < W - 1) & (y > 0), (y > 1) & (y < H - 1) & (x > 0)], dim=-1)
            uphill = torch.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], dim=-1).sign()
            return 0.25 * uphill * inner
        inner = torch.stack([(x > 0) & (x < W - 1), (y > 0) & (y < H - 1)], dim=-1)
        before, peak, after = (
            torch.stack(pair, dim=-1).clamp(min=1e-6).log()
            for pair in ((at(-1, 0), at(0, -1)), (at(0, 0), at(0, 0)), (at(1, 0), at(0, 1)))
        )
        curvature = (2 * peak - before - after).clamp(min=1e-6)
        return (0.5 * (after - before) / curvature).clamp(-0.5, 0.5) * inner

    def _rank(self, scores: Tensor, stop_probabilities: Tensor) -> Tensor:
        kept = (scores > 0).sum(dim=-1)
        mean_peak = scores.sum(dim=-1) / kept.clamp(min=1)
        if self.instance_score == 'peak':
            return mean_peak
        if self.instance_score == 'stop':
            # A person without a single kept joint is not a pose, whatever its stop probability.
            return stop_probabilities * (kept > 0)
        return stop_probabilities * mean_peak
