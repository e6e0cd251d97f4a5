"""Plain torch: the convolutional LSTM. It does not depend on poses, MMPose or the end of a sequence.

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
    bias of 1 on the forget gate at the start (Jozefowicz et al., 2015), since the hidden state must remember which
    people it has already found.

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
        # The convolutions' outputs have the memory format of the weights.
        zeros = zeros if weight.is_contiguous() else zeros.contiguous(memory_format=torch.channels_last)
        return zeros, zeros.clone()

    def forward(
        self,
        changing: Tensor | None,
        state: State,
        static_gates: Tensor | None = None,
        context_gates: Tensor | None = None,
    ) -> State:
        """One step.

        Args:
            changing (Tensor, optional): the input channels that are not static, (N, C - static_channels, H, W); None
                where there are none.
            state (tuple[Tensor, Tensor]): h and c of the step before.
            static_gates (Tensor, optional): from :meth:`static_gates`; None for a cell without static channels.
            context_gates (Tensor, optional): (N, 4 D, 1, 1), added to the gates of every cell. Defaults to None.

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
        if context_gates is not None:
            gates = gates.add_(context_gates)
        return self.next_state(gates, c)

    def next_state(self, gates: Tensor, c: Tensor) -> State:
        """The new state from the gates.

        Args:
            gates (Tensor): (N, 4 D, H, W), input, forget, output and cell gate before they are activated; without
                autograd they are overwritten.
            c (Tensor): (N, D, H, W), of the step before.

        Returns:
            tuple[Tensor, Tensor]: the new h and c.
        """
        if torch.is_grad_enabled() or torch.compiler.is_exporting():  # an exported graph has no memory of its own
            i, f, o, g = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        # The same in the gates' memory. The state is not overwritten: it is the caller's, and float32 under autocast.
        i, f, o, g = gates.chunk(4, dim=1)
        gates[:, : 3 * self.hidden_channels].sigmoid_()
        c = (f * c).add_(i.mul_(g.tanh_()))
        return torch.tanh(c).mul_(o), c


class ConvLSTM(nn.Module):
    """A stack of ConvLSTM layers; each takes the h of the layer below (paper, figure 3).

    ``layer_strides`` is not the paper's: layers in the middle may live on coarser grids, where a kernel sees further
    and costs less, as in an hourglass. A layer above a finer one takes the mean of its h over each cell. A layer above
    a coarser one takes its h interpolated, and beside it the h of the last layer on its own grid.

    Args:
        static_channels (int): channels of the first layer's input that never change.
        changing_channels (int): channels of the first layer's input that change from step to step; may be 0.
        hidden_channels (tuple[int, ...]): D of each layer, at least one.
        kernel_size (int): odd. Defaults to 3.
        layer_strides (tuple[int, ...], optional): cells of the input along one side of a cell of each layer. The first
            and the last are 1, neighbours divide one another. Defaults to None, 1 for all.

    Raises:
        ValueError: without layers, for a layer that cannot be built, or for strides that do not fit.
    """

    def __init__(
        self,
        static_channels: int,
        changing_channels: int,
        hidden_channels: tuple[int, ...],
        kernel_size: int = 3,
        layer_strides: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if not hidden_channels:
            raise ValueError(f'hidden_channels is {hidden_channels!r}; name the size of at least one layer.')
        self.strides = tuple(layer_strides or [1] * len(hidden_channels))
        self._check_strides(len(hidden_channels))
        self.layers = nn.ModuleList()
        for number, hidden in enumerate(hidden_channels):
            inputs = hidden_channels[number - 1] if number else static_channels + changing_channels
            skip = self._skip(number)
            inputs += 0 if skip is None else hidden_channels[skip]
            self.layers.append(ConvLSTMCell(inputs, hidden, kernel_size, 0 if number else static_channels))

    def _check_strides(self, num_layers: int) -> None:
        strides = self.strides
        if len(strides) != num_layers or not all(isinstance(stride, int) and stride > 0 for stride in strides):
            raise ValueError(f'layer_strides is {strides}; name one whole number for each of the {num_layers} layers.')
        if strides[0] != 1 or strides[-1] != 1:
            raise ValueError(f'layer_strides is {strides}; the first and the last layer have the grid of F, stride 1.')
        for number, (below, stride) in enumerate(zip(strides, strides[1:]), start=1):
            if max(below, stride) % min(below, stride) or (stride < below and stride not in strides[:number]):
                raise ValueError(
                    f'layer_strides is {strides}; neighbours {below} and {stride} do not fit: one has to divide the '
                    'other, and a way back to finer grids must use strides of the way to coarser ones.'
                )

    def _skip(self, number: int) -> int | None:
        """The last layer on a layer's own grid, if the one below is on a coarser one."""
        if not number or self.strides[number] >= self.strides[number - 1]:
            return None
        return max(layer for layer in range(number) if self.strides[layer] == self.strides[number])

    def _input_of(self, number: int, states: list[State]) -> Tensor:
        """What a layer above the first takes of the new states of those below."""
        h, _ = states[-1]
        below, stride = self.strides[number - 1], self.strides[number]
        if stride > below:
            return F.avg_pool2d(h, stride // below)
        skip = self._skip(number)
        if skip is None:
            return h
        finer = F.interpolate(h, scale_factor=below // stride, mode='bilinear', align_corners=False)
        return torch.cat([states[skip][0], finer], dim=1)

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

        Raises:
            ValueError: if the coarsest grid does not divide H and W.
        """
        coarsest = max(self.strides)
        if height % coarsest or width % coarsest:
            raise ValueError(
                f'The features have {width} x {height} cells, which layer_strides={self.strides} does not divide; use '
                f"input sizes that are multiples of {coarsest} times the neck's stride."
            )
        grids = [(height // stride, width // stride) for stride in self.strides]
        return [layer.initial_state(batch, *grid) for layer, grid in zip(self.layers, grids)]

    def forward(
        self,
        changing: Tensor | None,
        states: list[State],
        static_gates: Tensor,
        context_gates: list[Tensor] | None = None,
    ) -> list[State]:
        """One step of the whole stack.

        Args:
            changing (Tensor, optional): (N, changing_channels, H, W); None where there are none.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer.
            static_gates (Tensor): from :meth:`static_gates`.
            context_gates (list[Tensor], optional): (N, 4 D, 1, 1) for each layer, added to its gates. Defaults to None.

        Returns:
            list[tuple[Tensor, Tensor]]: the new h and c of each layer.
        """
        first, *others = context_gates or [None] * len(self.layers)
        new_states = [self.layers[0](changing, states[0], static_gates, first)]
        for number, of_layer in enumerate(others, start=1):
            below = self._input_of(number, new_states)
            new_states.append(self.layers[number](below, states[number], context_gates=of_layer))
        return new_states
