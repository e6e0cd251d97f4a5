from __future__ import annotations

import torch
from mmcv.cnn import ConvModule, MaxPool2d
from mmpose.models.backbones import HourglassAENet
from mmpose.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CrowdHourglassAENet(HourglassAENet):
    """MMPose's hourglass for AE, fitted to the synthetic crowd and a few minutes of two processor cores.

    Two things differ; the paper's network has neither and its COCO config uses the plain hourglass:

    - The stem is narrower: MMPose's fixed one would take two thirds of all arithmetic of a small hourglass.
    - A fixed slope over the image is added to the tags. People need different tags, and a convolution that sees no
      border has only their looks to go by; on the crowd all tags fell together to one value within a hundred iterations
      and stayed so for thousands. On a slope the network has only to learn how far a joint is from the middle of its
      person, which is a local thing.

    Args:
        feat_channels (int): channels after the stem and after each hourglass. Defaults to 64.
        stem_channels (tuple[int, int]): channels of the stem's first and later convolutions. Defaults to (32, 64).
        tag_channels (tuple[int, int]): range [begin, end) of the tags in each stack's output. Defaults to (17, 34).
        position_scale (float): rise of the tags from the left border to the right one; half of that from top to bottom.
            People are separated when their tags differ by 1. Defaults to 6.
        norm_cfg (dict): of the convolutions. Defaults to dict(type='BN', requires_grad=True).
        **kwargs: the others of ``HourglassAENet``.
    """

    def __init__(
        self,
        feat_channels: int = 64,
        stem_channels: tuple[int, int] = (32, 64),
        tag_channels: tuple[int, int] = (17, 34),
        position_scale: float = 6.0,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        **kwargs,
    ) -> None:
        super().__init__(feat_channels=feat_channels, norm_cfg=norm_cfg, **kwargs)
        first, later = stem_channels
        self.stem = nn.Sequential(
            ConvModule(3, first, 7, padding=3, stride=2, norm_cfg=norm_cfg),
            ConvModule(first, later, 3, padding=1, norm_cfg=norm_cfg),
            MaxPool2d(2, 2),
            ConvModule(later, feat_channels, 3, padding=1, norm_cfg=norm_cfg),
        )
        self.tag_channels = tuple(tag_channels)
        self.position_scale = position_scale

    def forward(self, x: Tensor) -> list[Tensor]:
        """The stacks' outputs.

        Args:
            x (Tensor): (N, 3, h, w), preprocessed.

        Returns:
            list[Tensor]: of each stack, (N, out_channels, h / 4, w / 4).
        """
        outputs = super().forward(x)
        height, width = outputs[0].shape[-2:]
        columns, rows = self._ramp(0.5, width, x), self._ramp(0.25, height, x)
        slope = torch.zeros_like(outputs[0][:1])
        slope[:, slice(*self.tag_channels)] = self.position_scale * (rows[:, None] + columns)
        return [output + slope for output in outputs]

    @staticmethod
    def _ramp(end: float, cells: int, like: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # linspace would freeze the number of cells; the same to rounding
            return torch.arange(cells, dtype=like.dtype, device=like.device) * (2 * end / (cells - 1)) - end
        return torch.linspace(-end, end, cells, dtype=like.dtype, device=like.device)
