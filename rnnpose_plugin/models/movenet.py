from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor

from .movenet_network import COARSEST, HEADS, PYRAMID_CHANNELS, MoveNet
from .movenet_tags import centre_tags

# What the backbone can give out, by name: its channels.
LEVELS = dict(
    features=PYRAMID_CHANNELS[0], **HEADS, tags=2 * HEADS['heatmaps'], position=2, peaks=3 * HEADS['heatmaps']
)


@MODELS.register_module()
class MoveNetBackbone(BaseModule):
    """MoveNet MultiPose (Google, Apache-2.0), whose features and heads are given out as levels of stride 4.

    It wants RGB from -1 to 1: ``mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True``. Its batch norms are folded, so
    training and evaluation mode are the same; ``freeze_backbone`` of the estimator keeps it as published.

    ``peaks`` is its heatmaps and offsets together, for :func:`snap_to_peaks`. Of the other levels, see
    :meth:`MoveNet.forward`, two are not the network's: ``tags``, see :func:`centre_tags`, and
    ``position``, x and y of each cell's centre, from -1 to 1 across the longer side, by which a decoder can keep an
    order among people.

    Args:
        levels (tuple[str, ...]): names of the outputs, in their order. Defaults to
            ``('features', 'heatmaps', 'centre', 'regression')``, 76 channels.
        init_cfg (dict, optional): converted weights, ``dict(type='Pretrained', checkpoint=...)``. Defaults to None.

    Raises:
        ValueError: for a level that it has not.
    """

    def __init__(
        self,
        levels: tuple[str, ...] = ('features', 'heatmaps', 'centre', 'regression'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        unknown = [level for level in levels if level not in LEVELS]
        if unknown or not levels:
            raise ValueError(f'levels is {tuple(levels)}; name some of {tuple(LEVELS)}.')
        self.levels = tuple(levels)
        self.network = MoveNet()

    @property
    def out_channels(self) -> list[int]:
        """list[int]: channels of each output, for the neck's ``in_channels``."""
        return [LEVELS[level] for level in self.levels]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The levels asked for.

        Args:
            x (Tensor): (N, 3, h, w), RGB from -1 to 1.

        Returns:
            tuple[Tensor, ...]: each (N, channels, h / 4, w / 4).

        Raises:
            ValueError: if a side is no multiple of 32.
        """
        height, width = x.shape[-2:]
        if height % COARSEST or width % COARSEST:
            raise ValueError(
                f'MoveNet takes sides that are multiples of {COARSEST}, but the picture came with {width} x {height} '
                'pixels; set such an input_size in BottomupResize, or pad_size_divisor=32 in the data_preprocessor.'
            )
        outputs = self.network(x)
        outputs['position'] = self._position(outputs['features'])
        outputs['peaks'] = torch.cat([outputs['heatmaps'], outputs['offsets']], dim=1)
        if 'tags' in self.levels:
            outputs['tags'] = centre_tags(outputs)
        return tuple(outputs[level] for level in self.levels)

    @staticmethod
    def _position(features: Tensor) -> Tensor:
        batch, _, rows, columns = features.shape
        half = torch.sym_max(rows, columns) / 2  # max, of an exported graph's open sizes too
        y, x = (
            (torch.arange(cells, dtype=features.dtype, device=features.device) + 0.5 - cells / 2) / half
            for cells in (rows, columns)
        )
        grid = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])
        return grid.expand(batch, -1, -1, -1)
