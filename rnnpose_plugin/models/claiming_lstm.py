"""Plain torch: a decoder that is shown what has been claimed. Ours, not the paper's.

The hidden state is to remember who was shown; a map of it says so outright, as the canvas of Ren and Zemel,
"End-to-End Instance Segmentation with Recurrent Attention" (CVPR 2017), does. Letters as in ``first_lstm``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conv_lstm import State
from .first_lstm import FirstLSTM


class ClaimingLSTM(FirstLSTM):
    """LSTM1 with K more inputs: for each keypoint the maximum over the people shown so far of their final heatmaps.

    The maps are clamped to [0, 1] and keep no graph: a person's heatmaps are trained by that person alone. They are
    carried behind the layers' states, as one more pair whose second part is empty, so code that detaches states or
    drops finished images treats them likewise.

    Args:
        feature_channels (int): C.
        num_keypoints (int): K.
        hidden_channels (tuple[int, ...]): D of each layer. Defaults to (68, 34, 17).
        feedback_passes (int): passes per person, at least 1. Defaults to 2.
        **kwargs: the others of :class:`FirstLSTM`.

    Raises:
        ValueError: without a feedback loop.
    """

    def __init__(
        self,
        feature_channels: int,
        num_keypoints: int,
        hidden_channels: tuple[int, ...] = (68, 34, 17),
        feedback_passes: int = 2,
        **kwargs,
    ) -> None:
        if not feedback_passes:
            raise ValueError(
                f'claimed_maps=True, but feedback_passes is {feedback_passes}: without the loop no heatmaps are fed '
                'to the decoder, neither its own nor those of others; use 1 pass or more.'
            )
        super().__init__(
            feature_channels, num_keypoints, hidden_channels, feedback_passes, given_channels=num_keypoints, **kwargs
        )

    def initial_state(self, static_maps: Tensor) -> list[State]:
        """Zeros, and nothing claimed.

        Args:
            static_maps (Tensor): from :meth:`static_maps`.

        Returns:
            list[tuple[Tensor, Tensor]]: h and c of each layer; the claimed maps (N, K, H, W) and (N, 0, H, W).
        """
        batch, _, height, width = static_maps.shape
        claimed = static_maps.new_zeros(batch, self.num_keypoints, height, width)
        return [*super().initial_state(static_maps), (claimed, claimed[:, :0])]

    def step(
        self, static_maps: Tensor, states: list[State], first: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[State]]:
        """One person.

        Args:
            static_maps (Tensor): from :meth:`start`.
            states (list[tuple[Tensor, Tensor]]): as :meth:`initial_state` gives them.
            first (Tensor, optional): (N, K, H, W) for the first pass. Defaults to fresh noise.

        Returns:
            tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]: heatmaps (N, K, H, W), unbounded; stop logits (N,); the
            new states.
        """
        *of_layers, (claimed, empty) = states
        heatmaps, of_layers = self.run_passes(static_maps, of_layers, first, given=claimed)
        claimed = torch.maximum(claimed, heatmaps.detach().clamp(0, 1).to(claimed))
        return heatmaps, self.stop_logits(of_layers), [*of_layers, (claimed, empty)]
