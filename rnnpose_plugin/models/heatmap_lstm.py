"""Plain torch: the base class of LSTM1 and LSTM2. It does not import MMPose.

Letters: N images, C feature channels, K keypoints, H x W cells, D hidden channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conv_lstm import ConvLSTM, State
from .global_context import GlobalContext

# glibc returns blocks above 32 MiB to the system as soon as they are free, and every page of a new one costs a
# fault: 8 images of 128 x 128 cells, decoded together on a CPU, took 1.3 times as long as one by one.
CPU_BLOCK = 2**25


class HeatmapLSTM(nn.Module):
    """Base class of LSTM1 and LSTM2: a ConvLSTM on the image's features, a feedback loop, a convolution to heatmaps.

    A step consists of ``feedback_passes`` passes through the same ConvLSTM. A pass takes the features, the heatmaps of
    the pass before (in the first one: uniform noise), whatever else is given at this step, and the hidden state; its
    last hidden state goes through a convolution to K heatmaps (section 3.1.1).

    The output convolution is 1 x 1; the paper says "a convolution layer" and no size.

    Two things are not the paper's and off by default: ``layer_strides`` puts layers on coarser grids, see
    :class:`ConvLSTM`, and ``context`` adds global context to the gates, see :class:`GlobalContext`.

    Args:
        feature_channels (int): C; the paper's c = 4 stacks x 34 = 136.
        num_keypoints (int): K.
        hidden_channels (tuple[int, ...]): D of each layer.
        feedback_passes (int): passes per person, >= 0. 0 is the paper's "no loop" (table 5): one pass and no own
            heatmaps among the inputs; 1 is one pass that sees only the noise.
        kernel_size (int): of the ConvLSTM's convolutions. Defaults to 3.
        noise (float): the first pass's heatmaps are drawn from U[0, noise]. Defaults to 0.1.
        given_channels (int): channels given at every step beside the features. Defaults to 0.
        context (str): ``'none'``, ``'pooled'`` or ``'read'``. Defaults to ``'none'``.
        layer_strides (tuple[int, ...], optional): cells of F along one side of a cell of each layer. Defaults to None,
            1 for all.

    Raises:
        ValueError: for a negative number of passes, an unknown context, or layers that cannot be built.
    """

    def __init__(
        self,
        feature_channels: int,
        num_keypoints: int,
        hidden_channels: tuple[int, ...],
        feedback_passes: int,
        kernel_size: int = 3,
        noise: float = 0.1,
        given_channels: int = 0,
        context: str = 'none',
        layer_strides: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(feedback_passes, int) or feedback_passes < 0:
            raise ValueError(f'feedback_passes is {feedback_passes!r}; use 0 (no loop) or the number of passes.')
        if context == 'read' and not feedback_passes:
            raise ValueError(
                "context is 'read', but feedback_passes is 0: no loop, no heatmaps to read by; use 'pooled'."
            )
        self.num_keypoints = num_keypoints
        self.feedback_passes = feedback_passes
        self.noise = noise
        changing_channels = given_channels + (num_keypoints if feedback_passes else 0)
        self.lstm = ConvLSTM(feature_channels, changing_channels, tuple(hidden_channels), kernel_size, layer_strides)
        self.context = GlobalContext(context, feature_channels, tuple(hidden_channels))
        self.to_heatmaps = nn.Conv2d(hidden_channels[-1], num_keypoints, 1)

    def train(self, mode: bool = True) -> HeatmapLSTM:
        """As in torch. On a CPU the weights are channels-last in eval mode.

        There convolutions, which take the memory format from the weights, are 1.4 times as fast at the paper's size. In
        training the weights stay contiguous, so that a resumed training repeats the unbroken one to the bit. The
        format follows the present device: after moving the model, call ``eval()`` again.

        Args:
            mode (bool): as in torch. Defaults to True.

        Returns:
            HeatmapLSTM: itself.
        """
        super().train(mode)
        on_cpu = self.to_heatmaps.weight.device.type == 'cpu'
        return self.to(memory_format=torch.contiguous_format if mode or not on_cpu else torch.channels_last)

    def start(self, features: Tensor) -> tuple[Tensor, list[State]]:
        """The static maps, computed once per image, and the empty hidden state.

        Args:
            features (Tensor): (N, C, H, W).

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: from :meth:`static_maps`, and h and c of each layer.
        """
        static = self.static_maps(features)
        return static, self.initial_state(static)

    def static_maps(self, features: Tensor) -> Tensor:
        """Computed once per image: the features' share of the gates, and the values that the context reads.

        Args:
            features (Tensor): (N, C, H, W).

        Returns:
            Tensor: (N, 4 D + V, H, W); D of the first layer, V as in :meth:`GlobalContext.values`.
        """
        gates = self.lstm.static_gates(features)
        values = self.context.values(features)
        return torch.cat([gates, values], dim=1) if values.shape[1] else gates

    def initial_state(self, static_maps: Tensor) -> list[State]:
        """Zeros.

        Args:
            static_maps (Tensor): from :meth:`static_maps`.

        Returns:
            list[tuple[Tensor, Tensor]]: h and c of each layer.

        Raises:
            ValueError: if the coarsest layer's grid does not divide H and W.
        """
        batch, _, height, width = static_maps.shape
        return self.lstm.initial_state(batch, height, width)

    def images_at_once(self, features: Tensor) -> int:
        """How many images go through the steps together when testing.

        Args:
            features (Tensor): (N, C, H, W), of all.

        Returns:
            int: N, but on a CPU as many as keep every tensor at or below ``CPU_BLOCK`` bytes, and at least 1.
        """
        if features.device.type != 'cpu':
            return len(features)
        gates = max(4 * layer.hidden_channels / stride**2 for layer, stride in zip(self.lstm.layers, self.lstm.strides))
        block = int(gates * features.shape[-2] * features.shape[-1]) * self.to_heatmaps.weight.element_size()
        return max(1, CPU_BLOCK // block)

    def draw_noise(self, batch: int, height: int, width: int, generator: torch.Generator | None = None) -> Tensor:
        """The heatmaps fed to a step's first pass (Algorithm 1, line 2).

        Args:
            batch (int): N.
            height (int): H.
            width (int): W.
            generator (torch.Generator, optional): defaults to torch's global one.

        Returns:
            Tensor: (N, K, H, W), uniform in [0, noise].
        """
        weight = self.to_heatmaps.weight
        size = (batch, self.num_keypoints, height, width)
        return self.noise * torch.rand(size, generator=generator, dtype=weight.dtype, device=weight.device)

    def run_passes(
        self, static_maps: Tensor, states: list[State], first: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[Tensor, list[State]]:
        """One step: all passes (Algorithm 1, lines 2 to 8).

        Args:
            static_maps (Tensor): from :meth:`start`.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer.
            first (Tensor, optional): (N, K, H, W), fed back in the first pass. Defaults to a fresh :meth:`draw_noise`;
                unused without a loop.
            given (Tensor, optional): (N, given_channels, H, W), the same in every pass.

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: heatmaps (N, K, H, W), unbounded, and the new h and c.
        """
        gate_channels = 4 * self.lstm.layers[0].hidden_channels
        gates, values = static_maps[:, :gate_channels], static_maps[:, gate_channels:]
        heatmaps = None
        if self.feedback_passes:
            batch, _, height, width = static_maps.shape
            heatmaps = self.draw_noise(batch, height, width) if first is None else first
        for _ in range(max(self.feedback_passes, 1)):
            fed = [maps for maps in (given, heatmaps if self.feedback_passes else None) if maps is not None]
            context_gates = self.context(values, states, heatmaps)
            states = self.lstm(torch.cat(fed, dim=1) if fed else None, states, gates, context_gates)
            heatmaps = self.to_heatmaps(states[-1][0])
        return heatmaps, states
