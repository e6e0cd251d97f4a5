from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class StackedFeatures(BaseModule):
    """Picks the decoder's features F out of what a backbone outputs (paper, section 3.3).

    For the stacked hourglass every stack outputs 68 channels: 17 heatmaps, 17 tags and 34 intermediate ones, of which
    the paper takes the last 34 of all four stacks: c = 136. For any other backbone it takes one or several feature maps
    of one size unchanged.

    Channels 34 to 67 of the last stack get no gradient in AE's training, as in pose-ae-train: AE supervises channels 0
    to 33, and the intermediate ones of the other stacks are trained only because the next stack reads them. With frozen
    features a quarter of the paper's c = 136 is therefore untrained, and half of c = 68 taken from one last stack.

    Args:
        in_channels (list[int]): channels of each of the backbone's outputs.
        channels (tuple[int, int], optional): the range [begin, end) taken from each output; all by default.
        in_index (list[int], optional): which outputs are used, negative from the end; all by default.
        ae_channels (int): when > 0, the first so many channels of the last used output are passed along behind F: the
            AE heatmaps and tags, for refinement. Defaults to 0.

    Raises:
        ValueError: if a range or an index does not fit ``in_channels``.
    """

    def __init__(
        self,
        in_channels: list[int],
        channels: tuple[int, int] | None = None,
        in_index: list[int] | None = None,
        ae_channels: int = 0,
    ) -> None:
        super().__init__()
        indices = range(len(in_channels)) if in_index is None else in_index
        for index in indices:
            if not -len(in_channels) <= index < len(in_channels):
                raise ValueError(f'in_index names output {index}, but the backbone has {len(in_channels)} outputs.')
        self.in_channels = list(in_channels)
        self.in_index = [index % len(in_channels) for index in indices]
        self.channels = (0, None) if channels is None else tuple(channels)
        self.ae_channels = ae_channels
        begin, end = self.channels
        for index in self.in_index:
            width = in_channels[index]
            if not 0 <= begin < (width if end is None else end) <= width or ae_channels > width:
                raise ValueError(
                    f'channels {self.channels} and ae_channels {ae_channels} do not fit output {index} '
                    f'of {width} channels.'
                )

    def forward(self, feats: list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pick and concatenate.

        Args:
            feats (list[Tensor] | tuple[Tensor, ...]): the backbone's outputs, each (N, C_i, H, W).

        Returns:
            tuple[Tensor, ...]: F (N, C, H, W) and, if asked for, the AE maps (N, ae_channels, H, W).

        Raises:
            ValueError: if the outputs' channels are not ``in_channels`` or the sizes differ.
        """
        if [f.shape[1] for f in feats] != self.in_channels:
            raise ValueError(
                f'The backbone outputs {[f.shape[1] for f in feats]} channels, but in_channels is {self.in_channels}; '
                'write what the backbone gives.'
            )
        used = [feats[i] for i in self.in_index]
        if any(f.shape[-2:] != used[0].shape[-2:] for f in used):
            sizes = [tuple(f.shape[-2:]) for f in used]
            raise ValueError(f'The outputs {self.in_index} have sizes {sizes}; choose outputs of one size by in_index.')
        begin, end = self.channels
        features = torch.cat([f[:, begin:end] for f in used], dim=1)
        return (features, used[-1][:, : self.ae_channels]) if self.ae_channels else (features,)
