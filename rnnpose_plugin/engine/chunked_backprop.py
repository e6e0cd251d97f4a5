"""Backpropagation chunk by chunk behind one ordinary loss (paper, section 3.2.1): the autograd op and its hook."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from mmpose.registry import HOOKS
from torch import Tensor
from torch.autograd.function import once_differentiable

MODES = ('accumulate',)


class _HandOver(torch.autograd.Function):
    """A loss whose gradients are known already; backward scales them and hands them over."""

    @staticmethod
    def forward(ctx, loss: Tensor, gradients: list[Tensor], scale: float, *tensors: Tensor) -> Tensor:
        ctx.gradients, ctx.scale = gradients, scale
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple:
        factor = grad_output / ctx.scale
        return (None, None, None, *(gradient * factor.to(gradient) for gradient in ctx.gradients))


def backprop_in_chunks(
    run: Callable[..., Iterable[dict[str, Tensor]]],
    inputs: list[Tensor],
    parameters: Iterable[Tensor],
    scale: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all chunk losses, with each chunk back-propagated as soon as it is there.

    Only one chunk's graph is alive at a time, so memory is bounded by the chunk size. The result is an ordinary loss
    to everything outside: its ``backward`` delivers the gradients to ``inputs`` and ``parameters``, so stock train
    loops, accumulation, clipping, loss scaling and DDP (whatever each rank's number of chunks) need no change.

    Args:
        run (Callable): called with detached stand-ins for ``inputs``; yields for each chunk a dict of scalar losses. It
            must not let a graph live on from one chunk to the next other than through the stand-ins.
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
    stand_ins = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs]
    outer = [tensor for tensor in [*inputs, *parameters] if tensor.requires_grad]
    inner = [tensor for tensor in [*stand_ins, *parameters] if tensor.requires_grad]
    gradients = [torch.zeros_like(tensor) for tensor in inner]
    parts: dict[str, Tensor] = {}
    for losses in run(*stand_ins):
        chunk_loss = sum(losses.values())
        for total, gradient in zip(gradients, torch.autograd.grad(chunk_loss * scale, inner, allow_unused=True)):
            if gradient is not None:
                total += gradient
        for name, loss in losses.items():
            parts[name] = parts.get(name, 0) + loss.detach()
    if not parts:
        raise ValueError('No chunk was run, so there is no loss to back-propagate.')
    return _HandOver.apply(sum(parts.values()), gradients, scale, *outer), parts


@HOOKS.register_module()
class ChunkedBackpropHook(Hook):
    """Turns chunked backprop on in the head while training (Algorithm 1).

    Without this hook the head back-propagates through the whole sequence at once. With fp16 loss scaling it also tells
    the head the scaler's present factor before each iteration.

    Args:
        chunk_size (int): T, people per backpropagation, >= 1. Defaults to 8, the paper's.
        mode (str): ``'accumulate'``: the gradients of all chunks go into one optimizer step. Defaults to
            ``'accumulate'``.

    Raises:
        ValueError: for T < 1 or an unknown mode.
    """

    def __init__(self, chunk_size: int = 8, mode: str = 'accumulate') -> None:
        if not isinstance(chunk_size, int) or chunk_size < 1:
            raise ValueError(f'chunk_size is {chunk_size}; T is a number of people and must be at least 1.')
        if mode not in MODES:
            raise ValueError(f'mode is {mode!r}; use one of {MODES}.')
        self.chunk_size = chunk_size
        self.mode = mode

    def before_train(self, runner: Runner) -> None:
        """Set the chunk size on the head.

        Args:
            runner (Runner): of the training.

        Raises:
            ValueError: if the model's head knows no chunks.
        """
        self.head = self._find_head(runner)
        self.head.chunk_size = self.chunk_size

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Pass the loss scaler's factor on.

        Args:
            runner (Runner): of the training.
            batch_idx (int): index of the batch in its epoch.
            data_batch (dict, optional): unused.
        """
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled():
            self.head.chunk_loss_scale = float(wrapper.loss_scaler.get_scale())

    def after_train(self, runner: Runner) -> None:
        """Leave the head as it was built.

        Args:
            runner (Runner): of the training.
        """
        self.head.chunk_size, self.head.chunk_loss_scale = None, 1.0

    @staticmethod
    def _find_head(runner: Runner) -> torch.nn.Module:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'head', None)
        if not hasattr(head, 'chunk_loss_scale'):
            raise ValueError(
                f'ChunkedBackpropHook needs a RecurrentPoseHead, but the head is a {type(head).__name__}; '
                'take the hook out of custom_hooks.'
            )
        return head
