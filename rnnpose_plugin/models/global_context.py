"""Plain torch: global context added to the gates of every cell. Not the paper's.

A 3 x 3 ConvLSTM sees a small neighbourhood in a pass, yet who comes next, and whether anyone is left, are
decisions about the whole image. Letters: N images, K keypoints, C feature channels, D hidden channels, H x W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conv_lstm import State

CONTEXTS = ('none', 'pooled', 'read')
VALUES = 64  # channels in which F is read; a linear layer maps their mean over cells to 4 D gates anyway


class GlobalContext(nn.Module):
    """One vector per image, computed before each pass and added to the gates of every cell, layer by layer.

    - ``'none'``: nothing, which is the paper;
    - ``'pooled'``: the global maxima of the hidden states, which also decide on the stop;
    - ``'read'``: these, and F, through a 1 x 1 convolution, averaged where the heatmaps of the pass before peak, so
      that the next pass looks for the joints of that person. A joint with an empty map reads nothing. In the first pass
      of a step the heatmaps are noise, and the result is F's average weighted by it (nothing without noise).

    The layer that maps them to gates starts at zero: a new network begins as the paper's.

    Args:
        kind (str): one of the above.
        feature_channels (int): C.
        hidden_channels (tuple[int, ...]): D of each layer.

    Raises:
        ValueError: for an unknown kind.
    """

    def __init__(self, kind: str, feature_channels: int, hidden_channels: tuple[int, ...]) -> None:
        super().__init__()
        if kind not in CONTEXTS:
            raise ValueError(f'context is {kind!r}; use one of {CONTEXTS}.')
        self.kind = kind
        self.gate_channels = [4 * hidden for hidden in hidden_channels]
        if kind == 'read':
            self.to_values = nn.Conv2d(feature_channels, VALUES, 1)
        if kind != 'none':
            size = sum(hidden_channels) + (VALUES if kind == 'read' else 0)
            self.to_gates = nn.Linear(size, sum(self.gate_channels))
            nn.init.zeros_(self.to_gates.weight)
            nn.init.zeros_(self.to_gates.bias)

    def values(self, features: Tensor) -> Tensor:
        """The values that are read, computed once per image.

        Args:
            features (Tensor): (N, C, H, W).

        Returns:
            Tensor: (N, V, H, W), without channels where nothing is read.
        """
        return self.to_values(features) if self.kind == 'read' else features[:, :0]

    def forward(self, values: Tensor, states: list[State], heatmaps: Tensor | None) -> list[Tensor] | None:
        """The context gates of each layer for the next pass.

        Args:
            values (Tensor): from :meth:`values`.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer.
            heatmaps (Tensor, optional): (N, K, H, W), of the pass before or noise; unused where nothing is read.

        Returns:
            list[Tensor], optional: (N, 4 D, 1, 1) for each layer; None without a context.
        """
        if self.kind == 'none':
            return None
        parts = [h.amax(dim=(2, 3)) for h, _ in states]
        if self.kind == 'read':
            # Squared, so that the peaks outweigh the many cells around zero.
            peaks = heatmaps.clamp(min=0).square().flatten(2)
            weights = (peaks / (peaks.sum(dim=2, keepdim=True) + 1e-4)).mean(dim=1)
            parts.append(torch.einsum('np,nvp->nv', weights, values.flatten(2)))
        gates = self.to_gates(torch.cat(parts, dim=1))
        return list(gates[:, :, None, None].split(self.gate_channels, dim=1))
