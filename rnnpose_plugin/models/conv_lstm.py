"""Plain torch: the convolutional LSTM. It knows nothing of poses, of MMPose or of how a sequence ends.

Letters: N images, C input channels, D hidden channels, H x W cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple  # (h, c) of one layer, each (N, D, H, W)


class ConvLSTMCell(nn.Module):
    """One ConvLSTM layer (Shi et al., 2015) whose four gates come from one convolution over [input, h].

    The first ``static_channels`` input channels are the same at every step (the image's features). Their share of the
    convolution is linear in them, so it is computed once per image by :meth:`static_gates` and added at each step; the
    result is that of the plain convolution over everything, to rounding.

    Departures from Shi et al.: no peephole terms (the paper names none, and common implementations have none), and a
    bias of 1 on the forget gate at the start (Jozefowicz et al., 2015), since the hidden state must remember whom it
    has already shown.

    Args:
        in_channels (int): C, the static channels included.
        hidden_channels (int): D.
        kernel_size (int): odd, so that maps keep their size. Defaults to 3.
        static_channels (int): how many of the first input channels never change. Defaults to 0.

    Raises:
        ValueError: for an even kernel, no hidden channels, or more static channels than input channels.
    """

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int = 3, static_channels: int = 0) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size is {kernel_size}; an even kernel shifts the maps, use an odd one.')
        if hidden_channels < 1:
            raise ValueError(f'hidden_channels is {hidden_channels}; a layer needs at least 1.')
        if not 0 <= static_channels <= in_channels:
            raise ValueError(f'static_channels is {static_channels}, but the input has {in_channels} channels.')
        self.hidden_channels = hidden_channels
        self.static_channels = static_channels
        self.padding = kernel_size // 2
        self.gates = nn.Conv2d(in_channels + hidden_channels, 4 * hidden_channels, kernel_size, padding=self.padding)
        with torch.no_grad():
            self.gates.bias[hidden_channels : 2 * hidden_channels] = 1.0

    def static_gates(self, static: Tensor) -> Tensor:
        """The static channels' share of the gates, bias included.

        Args:
            static (Tensor): (N, static_channels, H, W).

        Returns:
            Tensor: (N, 4 D, H, W).
        """
        return F.conv2d(static, self.gates.weight[:, : self.static_channels], self.gates.bias, padding=self.padding)

    def initial_state(self, batch: int, height: int, width: int) -> State:
        """Zeros.

        Args:
            batch (int): N.
            height (int): H.
            width (int): W.

        Returns:
            tuple[Tensor, Tensor]: h and c, each (N, D, H, W).
        """
        weight = self.gates.weight
        zeros = weight.new_zeros(batch, self.hidden_channels, height, width)
        # What the convolutions will give has the weights' order.
        zeros = zeros if weight.is_contiguous() else zeros.contiguous(memory_format=torch.channels_last)
        return zeros, zeros

    def forward(
        self, changing: Tensor | None, state: State, static_gates: Tensor | None = None, told: Tensor | None = None
    ) -> State:
        """One step.

        Args:
            changing (Tensor, optional): the input channels that are not static, (N, C - static_channels, H, W); None
                where there are none.
            state (tuple[Tensor, Tensor]): h and c of the step before.
            static_gates (Tensor, optional): from :meth:`static_gates`; None for a cell without static channels.
            told (Tensor, optional): (N, 4 D, 1, 1), added to the gates of every cell. Defaults to None.

        Returns:
            tuple[Tensor, Tensor]: the new h and c.
        """
        h, c = state
        inputs = h if changing is None else torch.cat([changing, h], dim=1)
        if static_gates is None:
            gates = self.gates(inputs)
        else:
            weight = self.gates.weight[:, self.static_channels :]
            gates = F.conv2d(inputs, weight, padding=self.padding).add_(static_gates)
        if told is not None:
            gates = gates.add_(told)
        return self.next_state(gates, c)

    def next_state(self, gates: Tensor, c: Tensor) -> State:
        """What the gates make of the state.

        Args:
            gates (Tensor): (N, 4 D, H, W), input, forget, output and cell gate before they are activated; where nothing
                is trained they are written over.
            c (Tensor): (N, D, H, W), of the step before.

        Returns:
            tuple[Tensor, Tensor]: the new h and c.
        """
        if torch.is_grad_enabled():
            i, f, o, g = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        # The same in the gates' own memory. The state stays apart: it is the caller's, and finer under autocast.
        i, f, o, g = gates.chunk(4, dim=1)
        gates[:, : 3 * self.hidden_channels].sigmoid_()
        c = (f * c).add_(i.mul_(g.tanh_()))
        return torch.tanh(c).mul_(o), c


class ConvLSTM(nn.Module):
    """A stack of ConvLSTM layers; each takes the h of the layer below (paper, figure 3).

    Args:
        static_channels (int): channels of the first layer's input that never change.
        changing_channels (int): channels of the first layer's input that change from step to step; may be 0.
        hidden_channels (tuple[int, ...]): D of each layer, at least one.
        kernel_size (int): odd. Defaults to 3.

    Raises:
        ValueError: if there is no layer, or a layer cannot be built.
    """

    def __init__(
        self, static_channels: int, changing_channels: int, hidden_channels: tuple[int, ...], kernel_size: int = 3
    ) -> None:
        super().__init__()
        if not hidden_channels:
            raise ValueError(f'hidden_channels is {hidden_channels!r}; name the size of at least one layer.')
        first = ConvLSTMCell(static_channels + changing_channels, hidden_channels[0], kernel_size, static_channels)
        rest = [ConvLSTMCell(below, hidden, kernel_size) for below, hidden in zip(hidden_channels, hidden_channels[1:])]
        self.layers = nn.ModuleList([first, *rest])

    def static_gates(self, static: Tensor) -> Tensor:
        """See :meth:`ConvLSTMCell.static_gates`; only the first layer has static channels.

        Args:
            static (Tensor): (N, static_channels, H, W).

        Returns:
            Tensor: (N, 4 D of the first layer, H, W).
        """
        return self.layers[0].static_gates(static)

    def initial_state(self, batch: int, height: int, width: int) -> list[State]:
        """Zeros for every layer.

        Args:
            batch (int): N.
            height (int): H.
            width (int): W.

        Returns:
            list[tuple[Tensor, Tensor]]: h and c of each layer.
        """
        return [layer.initial_state(batch, height, width) for layer in self.layers]

    def forward(
        self, changing: Tensor | None, states: list[State], static_gates: Tensor, told: list[Tensor] | None = None
    ) -> list[State]:
        """One step of the whole stack.

        Args:
            changing (Tensor, optional): (N, changing_channels, H, W); None where there are none.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer.
            static_gates (Tensor): from :meth:`static_gates`.
            told (list[Tensor], optional): (N, 4 D, 1, 1) for each layer, added to its gates. Defaults to None.

        Returns:
            list[tuple[Tensor, Tensor]]: the new h and c of each layer.
        """
        first, *others = told or [None] * len(self.layers)
        new_states = [self.layers[0](changing, states[0], static_gates, first)]
        for layer, state, of_layer in zip(self.layers[1:], states[1:], others):
            new_states.append(layer(new_states[-1][0], state, told=of_layer))
        return new_states
