"""Plain torch: the MoveNet MultiPose network, a MobileNetV2 with a feature pyramid and six heads at stride 4.

MoveNet MultiPose Lightning is Google's; published weights are read by ``rnnpose_plugin.runtime.convert_movenet``. Its
batch norms are folded into the convolutions. Two habits of TensorFlow are kept: at stride 2 "SAME" pads after the last
row and column only, and bilinear upsampling goes by half-pixel centres.

Letters: N images, [h, w] pixels, H x W cells, H = h / 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COARSEST = 32  # pixels along one side of the coarsest cell
STEM_CHANNELS = 48
# Channels and stride of each inverted residual block, those of MobileNetV2 with a width of 1.5.
BLOCKS = (
    *((24, 1),),
    *((40, 2), (40, 1)),
    *((48, 2), (48, 1), (48, 1)),
    *((96, 2), (96, 1), (96, 1), (96, 1)),
    *((144, 1), (144, 1), (144, 1)),
    *((240, 2), (240, 1), (240, 1)),
    *((480, 1),),
)
LAST_CHANNELS = 1280
# Blocks whose outputs the pyramid takes beside the last one, from fine to coarse, and the channels it makes of each.
PYRAMID_BLOCKS = (2, 5, 9)
PYRAMID_CHANNELS = (24, 32, 64, 64)
HEAD_CHANNELS = 96
HEADS = dict(centre=1, heatmaps=17, regression=34, offsets=34, box_offset=2, box_scale=2)


class SameConv(nn.Conv2d):
    """A convolution of kernel 1 or 3 with TensorFlow's "SAME" padding, for even sides where the stride is 2.

    Args:
        in_channels (int): of the input.
        out_channels (int): of the output.
        kernel_size (int): 1 or 3.
        stride (int): 1 or 2. Defaults to 1.
        groups (int): as in torch. Defaults to 1.
        bias (bool): as in torch. Defaults to True.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride).
        """
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.stride[0] == 2 else x)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen six times, convolve each channel, narrow; added to the input where sizes agree.

    Args:
        in_channels (int): of the input.
        out_channels (int): of the output.
        stride (int): 1 or 2.
        expand (bool): False leaves the widening out, as in the first block. Defaults to True.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: bool = True) -> None:
        super().__init__()
        wide = 6 * in_channels if expand else in_channels
        self.expand = SameConv(in_channels, wide, 1) if expand else None
        self.depthwise = SameConv(wide, wide, 3, stride, groups=wide)
        self.project = SameConv(wide, out_channels, 1)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Run the block.

        Args:
            x (Tensor): (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride).
        """
        wide = x if self.expand is None else F.relu6(self.expand(x))
        narrow = self.project(F.relu6(self.depthwise(wide)))
        return x + narrow if self.adds else narrow


class SeparableConv(nn.Module):
    """A 3 x 3 convolution of each channel, a 1 x 1 convolution with bias, ReLU.

    Args:
        in_channels (int): of the input.
        out_channels (int): of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = SameConv(in_channels, in_channels, 3, groups=in_channels, bias=False)
        self.pointwise = SameConv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H, W), not negative.
        """
        return F.relu(self.pointwise(self.depthwise(x)))


class MoveNet(nn.Module):
    """The whole network without its decoding.

    Random weights are of no use; load converted ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, stride=2)
        widths = [STEM_CHANNELS, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            InvertedResidual(width, channels, stride, expand=number > 0)
            for number, (width, (channels, stride)) in enumerate(zip(widths, BLOCKS))
        )
        self.last = SameConv(widths[-1], LAST_CHANNELS, 1)
        taken = [*(BLOCKS[block][0] for block in PYRAMID_BLOCKS), LAST_CHANNELS]
        self.laterals = nn.ModuleList(SameConv(width, wide, 1) for width, wide in zip(taken, PYRAMID_CHANNELS))
        # The sum at a level is narrowed to the channels of the next finer one; the finest keeps its own.
        finer = (PYRAMID_CHANNELS[0], *PYRAMID_CHANNELS[:-2])
        self.smooths = nn.ModuleList(SeparableConv(wide, narrow) for wide, narrow in zip(PYRAMID_CHANNELS, finer))
        features = PYRAMID_CHANNELS[0]
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(SeparableConv(features, HEAD_CHANNELS), SameConv(HEAD_CHANNELS, channels, 1))
                for name, channels in HEADS.items()
            }
        )

    def features(self, x: Tensor) -> Tensor:
        """MobileNetV2 and the pyramid.

        Args:
            x (Tensor): (N, 3, h, w), RGB from -1 to 1; h and w are multiples of 32.

        Returns:
            Tensor: (N, 24, H, W), not negative.
        """
        x, taken = F.relu6(self.stem(x)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in PYRAMID_BLOCKS:
                taken.append(x)
        levels = [lateral(level) for lateral, level in zip(self.laterals, [*taken, F.relu6(self.last(x))])]
        coarse = levels.pop()
        for level, smooth in zip(reversed(levels), reversed(self.smooths)):
            coarse = smooth(F.interpolate(coarse, scale_factor=2, mode='bilinear', align_corners=False) + level)
        return coarse

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features and heads.

        Args:
            x (Tensor): (N, 3, h, w), RGB from -1 to 1; h and w are multiples of 32.

        Returns:
            dict[str, Tensor]: each (N, channels, H, W). ``features``; ``centre`` and ``heatmaps`` in [0, 1];
            ``regression``, for each keypoint y and x from a person's centre cell, in cells; ``offsets``, for each
            keypoint y and x from its cell, in cells; ``box_offset`` and ``box_scale``, y and x, in cells.
        """
        features = self.features(x)
        outputs = {name: head(features) for name, head in self.heads.items()}
        for name in ('centre', 'heatmaps'):
            outputs[name] = torch.sigmoid(outputs[name])
        return dict(features=features, **outputs)
