"""Plain torch: backpropagation chunk by chunk behind one ordinary loss (paper, section 3.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Losses = dict  # names -> scalar tensors


class ChunkStep(Protocol):
    """An optimizer step between two chunks, as ``engine.chunk_hook.OptimizerChunkStep`` takes it.

    ``scale`` is the present factor of the loss scaler (1 without one) and ``backprops`` the number of chunks per step.
    A call gets the parameters that step and their gradients, without the loss scaler's factor.
    """

    scale: float
    backprops: int

    def __call__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None: ...


class _HandOver(torch.autograd.Function):
    """A loss whose gradients are known already; backward scales them and hands them over."""

    @staticmethod
    def forward(ctx, loss: Tensor, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients, ctx.dtypes = gradients, [tensor.dtype for tensor in tensors]
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple:
        return (None, None, *((g * grad_output.to(g)).to(dtype) for g, dtype in zip(ctx.gradients, ctx.dtypes)))


class _Gradients:
    """The gradients of a sequence, gathered chunk by chunk without the loss scaler's factor, in float32 at least."""

    def __init__(self, inputs: list[Tensor], parameters: Iterable[Tensor]) -> None:
        self.stand_ins = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs]
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.outer = [tensor for tensor in inputs if tensor.requires_grad] + self.parameters
        self.inner = [tensor for tensor in self.stand_ins if tensor.requires_grad] + self.parameters
        self.totals = [self._zeros(tensor) for tensor in self.inner]
        self.parts: dict[str, Tensor] = {}

    @staticmethod
    def _zeros(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))

    def add(self, losses: Losses, scale: float) -> None:
        """Back-propagate one chunk; ``scale`` acts inside and is divided out."""
        gradients = torch.autograd.grad(sum(losses.values()) * scale, self.inner, allow_unused=True)
        for total, gradient in zip(self.totals, gradients):
            if gradient is not None:
                total += gradient.to(total) / scale
        for name, loss in losses.items():
            self.parts[name] = self.parts.get(name, 0) + loss.detach()

    def take_parameters(self) -> list[Tensor]:
        """The parameters' gradients so far; they are reset, those of the inputs are kept."""
        first = len(self.inner) - len(self.parameters)
        taken, self.totals[first:] = self.totals[first:], [self._zeros(p) for p in self.parameters]
        return taken

    def hand_over(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss, whose backward delivers what has been gathered, and its parts."""
        if not self.parts:
            raise ValueError('No chunk was run, so there is no loss to back-propagate.')
        return _HandOver.apply(sum(self.parts.values()), self.totals, *self.outer), self.parts


def backprop_in_chunks(
    run: Callable[..., Iterable[Losses]],
    inputs: list[Tensor],
    parameters: Iterable[Tensor],
    scale: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all chunk losses, with each chunk back-propagated as soon as it has run.

    Only one chunk's graph is alive at a time, so memory is bounded by the chunk size. The result is an ordinary loss
    to everything outside: its ``backward`` delivers the gradients to ``inputs`` and ``parameters``, so stock train
    loops, accumulation, clipping, loss scaling and DDP (whatever each rank's number of chunks) need no change.

    Args:
        run (Callable): called with detached stand-ins for ``inputs``; yields for each chunk a dict of scalar losses. It
            must not keep a graph from one chunk to the next except through the stand-ins.
        inputs (list[Tensor]): tensors with a graph that every chunk uses, such as the features.
        parameters (Iterable[Tensor]): leaves that the chunks use; those without ``requires_grad`` are left out, those
            that no chunk reached get zeros (DDP waits for every parameter).
        scale (float): factor on each chunk's loss inside, divided out again outside: with fp16 it must be the loss
            scaler's, else the inner gradients underflow before the scaler's factor reaches them. Defaults to 1.

    Returns:
        tuple[Tensor, dict[str, Tensor]]: the total loss, a scalar with a graph, and its parts, detached.

    Raises:
        ValueError: if ``run`` yields no chunk.
    """
    gradients = _Gradients(inputs, parameters)
    for losses in run(*gradients.stand_ins):
        gradients.add(losses, scale)
    return gradients.hand_over()


def backprop_with_steps(
    run: Callable[..., Iterable[Losses]],
    is_last: Callable[[], bool],
    inputs: list[Tensor],
    parameters: Iterable[Tensor],
    step: ChunkStep,
) -> tuple[Tensor, dict[str, Tensor]]:
    """As :func:`backprop_in_chunks`, with an optimizer step for ``parameters`` after every chunk but the last.

    The last chunk's gradients are handed over with the loss, and the train loop's own step applies them. With them go
    the gradients of ``inputs``, gathered over all chunks: norm and backbone step once per batch.

    Args:
        run (Callable): as in :func:`backprop_in_chunks`; each chunk must use the weights as the last step left them.
        is_last (Callable): whether the chunk just yielded was the last one.
        inputs (list[Tensor]): as in :func:`backprop_in_chunks`.
        parameters (Iterable[Tensor]): those that step.
        step (ChunkStep): takes the optimizer step.

    Returns:
        tuple[Tensor, dict[str, Tensor]]: the total loss and its parts.

    Raises:
        ValueError: if ``run`` yields no chunk.
    """
    gradients = _Gradients(inputs, parameters)
    for number, losses in enumerate(run(*gradients.stand_ins), start=1):
        gradients.add(losses, step.scale)
        if number % step.backprops == 0 and not is_last():
            step(gradients.parameters, gradients.take_parameters())
    return gradients.hand_over()
